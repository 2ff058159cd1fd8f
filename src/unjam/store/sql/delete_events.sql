DELETE FROM event WHERE job_seq = ?
