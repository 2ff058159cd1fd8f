UPDATE worker
SET heartbeat_at = :stamp, expires_at = :stamp + :ttl, draining = :draining, stuck = :stuck
WHERE id = :id
