SELECT w.id, w.state
FROM dependency AS d
JOIN job AS w ON w.seq = d.job_seq
WHERE d.after_id = :id AND d.is_input = 1 AND w.finished_at IS NULL
LIMIT 1
