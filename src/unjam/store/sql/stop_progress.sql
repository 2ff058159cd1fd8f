UPDATE progress SET eta_seconds = NULL, stalled = NULL, usage = NULL WHERE job_seq = :job_seq
