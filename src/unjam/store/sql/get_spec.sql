SELECT spec FROM job_detail WHERE job_seq = :job_seq
