SELECT 'job ' || j.id || ' is ' || j.state || ' without an open attempt' AS finding
FROM job AS j
LEFT JOIN attempt AS a ON a.job_seq = j.seq AND a.fence = j.fence
WHERE j.lease_expires_at IS NOT NULL AND (a.fence IS NULL OR a.ended_at IS NOT NULL)
UNION ALL
SELECT 'attempt ' || a.fence || ' of job ' || j.id || ' is open, its job is ' || j.state
FROM attempt AS a
JOIN job AS j ON j.seq = a.job_seq
WHERE a.ended_at IS NULL AND (j.lease_expires_at IS NULL OR j.fence <> a.fence)
UNION ALL
SELECT 'job ' || j.id || ' is publishing, but what is not known'
FROM job AS j
LEFT JOIN publish AS p ON p.job_seq = j.seq AND p.fence = j.fence
WHERE j.phase = 'publishing' AND p.job_seq IS NULL
UNION ALL
SELECT 'job ' || j.id || ' waits for nothing'
FROM job AS j
WHERE j.state = 'waiting'
  AND NOT EXISTS (SELECT 1 FROM dependency AS d WHERE d.job_seq = j.seq AND NOT d.satisfied)
UNION ALL
SELECT 'job ' || j.id || ' has no details'
FROM job AS j
WHERE NOT EXISTS (SELECT 1 FROM job_detail AS d WHERE d.job_seq = j.seq)
