SELECT seq
FROM job
WHERE dedupe_key = :key
ORDER BY finished_at IS NOT NULL, seq DESC
LIMIT 1
