SELECT e.id, e.at, j.id AS job_id, e.attempt, e.kind, e.state_from, e.state_to, e.data
FROM job AS j
JOIN event AS e ON e.job_seq = j.seq
WHERE j.id IN (SELECT value FROM json_each(:ids)) AND e.id > :cursor
ORDER BY e.id
LIMIT :limit
