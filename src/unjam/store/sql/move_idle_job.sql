UPDATE job
SET state = :state, finished_at = :finished_at, reason_code = :reason_code, reason_message = :reason_message
WHERE seq = :seq
