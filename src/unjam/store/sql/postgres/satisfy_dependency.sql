-- The waiting jobs are locked first: of two ends that satisfy the last two dependencies of one job at the same
-- moment, the second sees what the first wrote, and releases it.
WITH waiter AS MATERIALIZED (
    SELECT j.seq
    FROM dependency AS d
    JOIN job AS j ON j.seq = d.job_seq
    WHERE d.after_id = :after_id AND NOT d.satisfied
    ORDER BY j.id
    FOR NO KEY UPDATE OF j
)
UPDATE dependency AS d
SET satisfied = true
FROM waiter
WHERE d.job_seq = waiter.seq AND d.after_id = :after_id AND NOT d.satisfied
RETURNING d.job_seq
