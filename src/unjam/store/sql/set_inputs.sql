UPDATE job_detail SET inputs = :inputs WHERE job_seq = :job_seq
