DELETE FROM attachment WHERE expires_at <= :now RETURNING job_seq
