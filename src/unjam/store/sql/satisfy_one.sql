UPDATE dependency SET satisfied = 1 WHERE job_seq = :job_seq AND after_id = :after_id
