SELECT *
FROM stage
WHERE job_seq = (SELECT seq FROM job WHERE job.id = :id)
ORDER BY position, name
