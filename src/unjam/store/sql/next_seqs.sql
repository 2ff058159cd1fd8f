-- As many numbers as jobs are to come, one a row.
WITH RECURSIVE next (seq, left_over) AS (
    SELECT coalesce(max(seq), 0) + 1, :count FROM job
    UNION ALL
    SELECT seq + 1, left_over - 1 FROM next WHERE left_over > 1
)
SELECT seq FROM next WHERE left_over > 0
