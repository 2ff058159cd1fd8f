UPDATE dependency SET satisfied = 1 WHERE after_id = :after_id AND NOT satisfied RETURNING job_seq
