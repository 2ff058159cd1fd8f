SELECT *
FROM attempt
WHERE job_seq = (SELECT seq FROM job WHERE job.id = :id)
ORDER BY fence
