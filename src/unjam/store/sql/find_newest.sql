SELECT coalesce(b.id, j.id) AS id
FROM job AS j
LEFT JOIN batch AS b ON b.seq = j.batch_seq
ORDER BY j.seq DESC
LIMIT 1
