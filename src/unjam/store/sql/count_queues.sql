SELECT l.queue, 'queued' AS state, count(*) AS jobs, min(j.run_at) AS oldest
FROM job AS j
JOIN lane AS l ON l.id = j.lane_id
WHERE j.state = 'queued'
GROUP BY l.queue
UNION ALL
SELECT l.queue, j.state, count(*), NULL
FROM job AS j
JOIN lane AS l ON l.id = j.lane_id
WHERE j.state IN ('waiting', 'running', 'paused', 'cancelling')
GROUP BY l.queue, j.state
