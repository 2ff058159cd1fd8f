DELETE FROM attachment WHERE job_seq = :job_seq
