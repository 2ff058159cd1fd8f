SELECT j.id
FROM attachment AS a
JOIN job AS j ON j.seq = a.job_seq
WHERE a.watcher_id = :watcher_id
