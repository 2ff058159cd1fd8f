UPDATE unit SET state = 'pending', progress = 0.0 WHERE job_seq = :job_seq AND state = 'running'
