SELECT 'id' AS what, j.id AS value, j.id, j.state
FROM json_each(:ids) AS asked
JOIN job AS j ON j.id = asked.value
UNION ALL
SELECT 'key', j.dedupe_key, j.id, j.state
FROM json_each(:keys) AS asked
JOIN job AS j ON j.dedupe_key = asked.value AND iif(j.finished_at IS NULL, 0, j.seq) = 0
UNION ALL
SELECT 'path', j.output_path, j.id, j.state
FROM json_each(:paths) AS asked
JOIN job AS j ON j.output_path = asked.value AND j.finished_at IS NULL
