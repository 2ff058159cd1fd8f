SELECT *
FROM unit
WHERE job_seq = :job_seq AND stage = :stage AND state = 'committed' AND (host IS NULL OR host = :host)
ORDER BY id
