INSERT OR REPLACE INTO attachment (watcher_id, job_seq, expires_at) VALUES (:watcher_id, :job_seq, :expires_at)
