SELECT o.id, o.state
FROM job AS j
JOIN job AS o ON o.seq <> j.seq AND o.finished_at IS NULL
 AND (o.dedupe_key = j.dedupe_key OR o.output_path = j.output_path)
WHERE j.seq = :seq
LIMIT 1
