-- One look: between two the batch may be removed, and its number given to another (SQLite).
SELECT j.id
FROM batch AS b
LEFT JOIN job AS j ON j.batch_seq = b.seq
WHERE b.id = :id
ORDER BY j.seq
