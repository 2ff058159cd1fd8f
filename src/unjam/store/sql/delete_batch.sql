DELETE FROM batch
WHERE seq = ? AND NOT EXISTS (SELECT 1 FROM job WHERE job.batch_seq = batch.seq)
