UPDATE attempt SET containment = :containment, pid = :pid WHERE job_seq = :job_seq AND fence = :fence
