DELETE FROM event
WHERE job_seq IS NULL AND at < :before AND id < (SELECT max(id) FROM event)
