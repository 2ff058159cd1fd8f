DELETE FROM unit WHERE job_seq = :job_seq RETURNING *
