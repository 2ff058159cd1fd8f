SELECT seq
FROM job
WHERE seq = :seq AND state = 'running' AND requested IS NULL AND (:unleased = 0 OR phase <> 'publishing')
