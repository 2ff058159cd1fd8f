SELECT 'id' AS what, j.id AS value, j.id, j.state
FROM job AS j
WHERE j.id = ANY (ARRAY(SELECT json_array_elements_text(CAST(:ids AS json))))
UNION ALL
SELECT 'key', j.dedupe_key, j.id, j.state
FROM job AS j
WHERE j.dedupe_key = ANY (ARRAY(SELECT json_array_elements_text(CAST(:keys AS json))))
  AND (CASE WHEN j.finished_at IS NULL THEN 0 ELSE j.seq END) = 0
UNION ALL
SELECT 'path', j.output_path, j.id, j.state
FROM job AS j
WHERE j.output_path = ANY (ARRAY(SELECT json_array_elements_text(CAST(:paths AS json))))
  AND j.finished_at IS NULL
