INSERT INTO worker (
    id, host, host_name, identity, keeper_identity, mark, queues, slots, pipelines, wake_path, draining,
    cpu, memory_bytes, gpu, stuck, started_at, heartbeat_at, expires_at
)
VALUES (
    :id, :host, :host_name, :identity, :keeper_identity, :mark, :queues, :slots, :pipelines, :wake_path, :draining,
    :cpu, :memory_bytes, :gpu, :stuck, :stamp, :stamp, :stamp + :ttl
)
ON CONFLICT (id) DO UPDATE
SET host = excluded.host, host_name = excluded.host_name, identity = excluded.identity,
    keeper_identity = excluded.keeper_identity,
    mark = excluded.mark, queues = excluded.queues, slots = excluded.slots, pipelines = excluded.pipelines,
    cpu = excluded.cpu, memory_bytes = excluded.memory_bytes, gpu = excluded.gpu, stuck = excluded.stuck,
    wake_path = excluded.wake_path, draining = excluded.draining, started_at = excluded.started_at,
    heartbeat_at = excluded.heartbeat_at, expires_at = excluded.expires_at
