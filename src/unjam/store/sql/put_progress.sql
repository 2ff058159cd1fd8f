INSERT INTO progress (job_seq, progress, eta_seconds, message, advanced_at, stalled, stall_at, usage)
VALUES (:job_seq, :progress, :eta_seconds, :message, :advanced_at, :stalled, :stall_at, :usage)
ON CONFLICT (job_seq) DO UPDATE
SET progress = excluded.progress, eta_seconds = excluded.eta_seconds, message = excluded.message,
    advanced_at = excluded.advanced_at, stalled = excluded.stalled, stall_at = excluded.stall_at, usage = excluded.usage
