DELETE FROM attachment WHERE watcher_id = :watcher_id
