SELECT o.id, o.state
FROM job AS j
JOIN job AS o ON o.dedupe_key = j.dedupe_key AND iif(o.finished_at IS NULL, 0, o.seq) = 0
WHERE j.seq = :seq AND o.seq <> j.seq
UNION ALL
SELECT o.id, o.state
FROM job AS j
JOIN job AS o ON o.output_path = j.output_path AND o.finished_at IS NULL
WHERE j.seq = :seq AND o.seq <> j.seq
LIMIT 1
