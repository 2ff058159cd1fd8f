UPDATE worker SET heartbeat_at = :now, expires_at = :expires_at, draining = :draining WHERE id = :id
