INSERT OR REPLACE INTO progress (job_seq, progress, eta_seconds, message, advanced_at, stalled, usage)
VALUES (:job_seq, :progress, :eta_seconds, :message, :advanced_at, :stalled, :usage)
