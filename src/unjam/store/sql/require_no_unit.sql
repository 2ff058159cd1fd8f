SELECT 1 AS free
WHERE NOT EXISTS (
    SELECT 1
    FROM unit
    WHERE job_seq = :job_seq AND stage = :stage AND name = :name AND state = 'committed'
      AND (host IS NULL OR host = :host)
)
