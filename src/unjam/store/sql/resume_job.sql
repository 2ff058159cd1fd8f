UPDATE job
SET state = :state, run_at = :now, finished_at = NULL, reason_code = NULL, reason_message = NULL,
    attempts = iif(:fresh, 0, attempts), failures = iif(:fresh, 0, failures),
    crashes = iif(:fresh, 0, crashes), losses = iif(:fresh, 0, losses)
WHERE seq = :seq
