SELECT seq, id
FROM job
WHERE finished_at < :before
ORDER BY finished_at
LIMIT :limit
FOR UPDATE SKIP LOCKED
