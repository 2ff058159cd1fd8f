SELECT coalesce(max(seq), 0) + 1 AS seq FROM job
