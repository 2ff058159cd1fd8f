UPDATE attachment SET expires_at = :expires_at WHERE watcher_id = :watcher_id
