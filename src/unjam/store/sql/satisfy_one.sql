UPDATE dependency SET satisfied = true WHERE job_seq = :job_seq AND after_id = :after_id
