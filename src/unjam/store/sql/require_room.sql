SELECT 1 AS fits
FROM (
    SELECT
        coalesce(sum(cpu), 0) AS cpu,
        coalesce(sum(memory_bytes), 0) AS memory_bytes,
        coalesce(sum(gpu), 0) AS gpu
    FROM job
    WHERE host = :host AND lease_expires_at IS NOT NULL
) AS used
WHERE (:cpu = 0 OR used.cpu + :cpu <= :whole_cpu)
  AND (:memory_bytes = 0 OR used.memory_bytes + :memory_bytes <= :whole_memory_bytes)
  AND (:gpu = 0 OR used.gpu + :gpu <= :whole_gpu)
