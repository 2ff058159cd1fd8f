INSERT INTO attachment (watcher_id, job_seq, expires_at) VALUES (:watcher_id, :job_seq, :expires_at)
ON CONFLICT (watcher_id, job_seq) DO UPDATE SET expires_at = excluded.expires_at
