SELECT id
FROM job
WHERE seq IN (SELECT job_seq FROM attachment WHERE expires_at <= :now)
ORDER BY id
