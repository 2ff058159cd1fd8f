INSERT INTO unit (
    job_seq, stage, name, state, progress, fence, uri, size_bytes, sha256, result, host, reason_code, reason_message
)
VALUES (
    :job_seq, :stage, :name, :state, :progress, :fence, :uri, :size_bytes, :sha256, :result, :host,
    :reason_code, :reason_message
)
ON CONFLICT (job_seq, stage, name) DO UPDATE
SET state = excluded.state, progress = excluded.progress, fence = excluded.fence,
    reason_code = excluded.reason_code, reason_message = excluded.reason_message
WHERE unit.state <> 'committed'
