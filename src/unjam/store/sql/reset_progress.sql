UPDATE progress SET progress = 0.0, eta_seconds = NULL, message = '' WHERE job_seq = :job_seq
