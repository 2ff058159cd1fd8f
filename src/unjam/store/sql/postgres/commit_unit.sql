INSERT INTO unit (
    job_seq, stage, name, state, progress, fence, uri, size_bytes, sha256, result, host
)
VALUES (:job_seq, :stage, :name, 'committed', 1.0, :fence, :uri, :size_bytes, :sha256, :result, :host)
ON CONFLICT (job_seq, stage, name) DO UPDATE
SET id = DEFAULT, state = excluded.state, progress = excluded.progress, fence = excluded.fence,
    uri = excluded.uri, size_bytes = excluded.size_bytes, sha256 = excluded.sha256, result = excluded.result,
    host = excluded.host, reason_code = NULL, reason_message = NULL
