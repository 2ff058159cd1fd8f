-- The rows are locked first and their state is looked at then: one that is resumed at this moment is seen, and a paused
-- one does not fail of the end that is being taken back.
WITH waiter AS MATERIALIZED (
    SELECT j.seq, j.id, j.state, j.reason_code
    FROM dependency AS d
    JOIN job AS j ON j.seq = d.job_seq
    WHERE d.after_id = :after_id AND NOT d.satisfied
    ORDER BY j.id
    FOR NO KEY UPDATE OF j
)
SELECT seq, id FROM waiter WHERE state = 'failed' AND reason_code = 'dependency_failed' ORDER BY id
