SELECT fence, uri, size_bytes, sha256, result, host
FROM unit
WHERE job_seq = (SELECT seq FROM job WHERE job.id = :id) AND stage = :stage AND name = :name AND state = 'committed'
  AND (host IS NULL OR host = :host)
