INSERT INTO progress (job_seq, progress, message) VALUES (:job_seq, 1.0, '')
ON CONFLICT (job_seq) DO UPDATE SET progress = 1.0, eta_seconds = NULL, stalled = NULL, stall_at = NULL, usage = NULL
