DELETE FROM publish WHERE job_seq = :job_seq
