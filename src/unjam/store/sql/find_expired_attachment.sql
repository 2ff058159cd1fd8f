SELECT DISTINCT j.id
FROM attachment AS a
JOIN job AS j ON j.seq = a.job_seq
WHERE a.expires_at <= :now
ORDER BY j.id
