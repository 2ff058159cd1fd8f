UPDATE progress SET eta_seconds = NULL, stalled = NULL, stall_at = NULL, usage = NULL WHERE job_seq = :job_seq
