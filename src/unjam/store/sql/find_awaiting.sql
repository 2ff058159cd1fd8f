SELECT job_seq FROM dependency WHERE after_id = :after_id AND NOT satisfied LIMIT 1
