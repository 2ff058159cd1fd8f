SELECT
    j.*, l.queue, l.pipeline, l.priority, b.id AS batch_id,
    d.name, d.pipeline_version, d.spec,
    p.progress, p.eta_seconds, p.message, p.advanced_at, p.stalled, p.stall_at, p.usage
FROM job AS j
JOIN lane AS l ON l.id = j.lane_id
JOIN job_detail AS d ON d.job_seq = j.seq
LEFT JOIN batch AS b ON b.seq = j.batch_seq
LEFT JOIN progress AS p ON p.job_seq = j.seq
WHERE j.seq = ANY (ARRAY(SELECT CAST(json_array_elements_text(CAST(:seqs AS json)) AS bigint)))
