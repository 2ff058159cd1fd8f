INSERT OR REPLACE INTO stage (
    job_seq, name, position, state, progress, message, units_done, units_total, started_at, ended_at,
    reason_code, reason_message
)
VALUES (
    :job_seq, :name, :position, :state, :progress, :message, :units_done, :units_total, :started_at, :ended_at,
    :reason_code, :reason_message
)
