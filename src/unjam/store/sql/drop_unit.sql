DELETE FROM unit WHERE job_seq = :job_seq AND name = :name RETURNING *
