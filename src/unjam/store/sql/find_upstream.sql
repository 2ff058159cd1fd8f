SELECT d.after_id, u.state, u.finished_at
FROM dependency AS d
LEFT JOIN job AS u ON u.id = d.after_id
WHERE d.job_seq = :job_seq AND NOT d.satisfied
