INSERT OR REPLACE INTO worker (
    id, host, identity, keeper_identity, mark, queues, slots, pipelines, wake_path, draining,
    started_at, heartbeat_at, expires_at
)
VALUES (
    :id, :host, :identity, :keeper_identity, :mark, :queues, :slots, :pipelines, :wake_path, :draining,
    :now, :now, :expires_at
)
