UPDATE worker
SET heartbeat_at = :now, expires_at = :expires_at, draining = :draining, stuck = :stuck
WHERE id = :id
