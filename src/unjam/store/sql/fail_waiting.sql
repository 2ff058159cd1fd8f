UPDATE job
SET state = 'failed', finished_at = :now, reason_code = 'dependency_failed', reason_message = :message
WHERE seq = :seq AND state = 'waiting'
