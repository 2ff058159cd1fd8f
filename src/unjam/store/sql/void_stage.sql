DELETE FROM unit WHERE job_seq = :job_seq AND stage = :stage RETURNING state
