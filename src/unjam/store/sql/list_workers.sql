SELECT * FROM worker ORDER BY host, started_at, id
