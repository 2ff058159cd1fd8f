UPDATE attachment SET expires_at = :stamp + :ttl WHERE watcher_id = :watcher_id
