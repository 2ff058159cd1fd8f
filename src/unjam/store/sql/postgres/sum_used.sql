SELECT
    coalesce(sum(cpu), 0) AS cpu,
    CAST(coalesce(sum(memory_bytes), 0) AS bigint) AS memory_bytes,
    coalesce(sum(gpu), 0) AS gpu
FROM job
WHERE host = :host AND lease_expires_at IS NOT NULL
