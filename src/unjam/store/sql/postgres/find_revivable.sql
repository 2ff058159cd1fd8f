-- The rows are locked first and their state is looked at then: one that is resumed at this moment is seen.
WITH waiter AS MATERIALIZED (
    SELECT j.seq, j.id, j.state, j.reason_code
    FROM dependency AS d
    JOIN job AS j ON j.seq = d.job_seq
    WHERE d.after_id = :after_id AND NOT d.satisfied AND j.finished_at IS NOT NULL
    ORDER BY j.id
    FOR NO KEY UPDATE OF j
)
SELECT seq, id FROM waiter WHERE state = 'failed' AND reason_code = 'dependency_failed' ORDER BY id
