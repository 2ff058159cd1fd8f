UPDATE dependency SET satisfied = true WHERE after_id = :after_id AND NOT satisfied RETURNING job_seq
