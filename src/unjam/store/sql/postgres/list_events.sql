SELECT e.id, e.at, j.id AS job_id, e.attempt, e.kind, e.state_from, e.state_to, e.data
FROM event AS e
LEFT JOIN job AS j ON j.seq = e.job_seq
WHERE e.id > :cursor AND e.id < event_horizon()
ORDER BY e.id
LIMIT :limit
