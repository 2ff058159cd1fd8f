UPDATE job
SET state = :state, run_at = :now, finished_at = NULL, reason_code = NULL, reason_message = NULL,
    attempts = CASE WHEN :fresh = 1 THEN 0 ELSE attempts END, failures = CASE WHEN :fresh = 1 THEN 0 ELSE failures END,
    crashes = CASE WHEN :fresh = 1 THEN 0 ELSE crashes END, losses = CASE WHEN :fresh = 1 THEN 0 ELSE losses END
WHERE seq = :seq
