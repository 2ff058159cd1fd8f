SELECT watcher_id FROM attachment WHERE job_seq = :job_seq LIMIT 1
