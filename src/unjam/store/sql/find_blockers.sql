SELECT after_id
FROM dependency
WHERE job_seq = (SELECT seq FROM job WHERE id = :id) AND NOT satisfied
ORDER BY after_id
