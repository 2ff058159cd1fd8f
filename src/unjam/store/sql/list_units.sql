SELECT *
FROM unit
WHERE job_seq = (SELECT seq FROM job WHERE job.id = :id)
ORDER BY id
