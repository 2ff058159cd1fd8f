SELECT id FROM job WHERE id >= :prefix AND id < :above
UNION ALL
SELECT id FROM batch WHERE id >= :prefix AND id < :above
LIMIT 10
