UPDATE job
SET state = :state, phase = NULL, requested = NULL, request_code = NULL, request_message = NULL,
    worker_id = NULL, host = NULL, lease_expires_at = NULL, run_at = coalesce(:run_at, run_at), finished_at = CASE WHEN :ended = 1 THEN :stamp END,
    reason_code = :reason_code, reason_message = :reason_message,
    attempts = :attempts, failures = :failures, crashes = :crashes, losses = :losses
WHERE seq = :seq
