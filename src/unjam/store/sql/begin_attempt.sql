UPDATE attempt
SET state = 'running', identity = :identity, pid = :pid, log_path = :log_path
WHERE job_seq = :job_seq AND fence = :fence
