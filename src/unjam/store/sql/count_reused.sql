UPDATE attempt
SET units_reused = (
    SELECT count(*)
    FROM unit AS u
    WHERE u.job_seq = :job_seq AND u.state = 'committed' AND u.fence < :fence
      AND (u.host IS NULL OR u.host = :host)
)
WHERE job_seq = :job_seq AND fence = :fence
