INSERT INTO stage (
    job_seq, name, position, state, progress, message, units_done, units_total, started_at, ended_at,
    reason_code, reason_message
)
VALUES (
    :job_seq, :name, :position, :state, :progress, :message, :units_done, :units_total, :started_at, :ended_at,
    :reason_code, :reason_message
)
ON CONFLICT (job_seq, name) DO UPDATE
SET position = excluded.position, state = excluded.state, progress = excluded.progress,
    message = excluded.message, units_done = excluded.units_done, units_total = excluded.units_total,
    started_at = excluded.started_at, ended_at = excluded.ended_at,
    reason_code = excluded.reason_code, reason_message = excluded.reason_message
