INSERT OR REPLACE INTO unit (
    job_seq, stage, name, state, progress, fence, uri, size_bytes, sha256, result, host
)
VALUES (:job_seq, :stage, :name, 'committed', 1.0, :fence, :uri, :size_bytes, :sha256, :result, :host)
