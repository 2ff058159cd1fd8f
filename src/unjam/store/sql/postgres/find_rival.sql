SELECT o.id, o.state
FROM job AS j
JOIN job AS o
  ON o.dedupe_key = j.dedupe_key AND (CASE WHEN o.finished_at IS NULL THEN 0 ELSE o.seq END) = 0
WHERE j.seq = :seq AND o.seq <> j.seq
UNION ALL
SELECT o.id, o.state
FROM job AS j
JOIN job AS o ON o.output_path = j.output_path AND o.finished_at IS NULL
WHERE j.seq = :seq AND o.seq <> j.seq
LIMIT 1
