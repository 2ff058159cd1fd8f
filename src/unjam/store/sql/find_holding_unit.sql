SELECT fence, uri, size_bytes, sha256, result, host
FROM unit
WHERE job_seq = :job_seq AND stage = :stage AND name = :name AND state = 'committed'
  AND (host IS NULL OR host = :host)
