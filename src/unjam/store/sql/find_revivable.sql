SELECT j.seq, j.id
FROM dependency AS d
JOIN job AS j ON j.seq = d.job_seq
WHERE d.after_id = :after_id AND NOT d.satisfied AND j.state = 'failed' AND j.reason_code = 'dependency_failed'
ORDER BY j.id
