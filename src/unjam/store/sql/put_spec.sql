UPDATE job_detail SET spec = :spec WHERE job_seq = :job_seq
