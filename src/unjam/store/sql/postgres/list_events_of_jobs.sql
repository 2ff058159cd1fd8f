SELECT e.id, e.at, j.id AS job_id, e.attempt, e.kind, e.state_from, e.state_to, e.data
FROM job AS j
JOIN event AS e ON e.job_seq = j.seq
WHERE j.id = ANY (ARRAY(SELECT json_array_elements_text(CAST(:ids AS json))))
  AND e.id > :cursor AND e.id < event_horizon()
ORDER BY e.id
LIMIT :limit
