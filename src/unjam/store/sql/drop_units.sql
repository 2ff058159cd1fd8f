DELETE FROM unit
WHERE job_seq = :job_seq AND (:names IS NULL OR name IN (SELECT value FROM json_each(:names)))
RETURNING *
