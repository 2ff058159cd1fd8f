DELETE FROM attachment WHERE job_seq = :job_seq AND expires_at <= :now
