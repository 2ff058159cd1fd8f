DELETE FROM batch
WHERE created_at < :before AND NOT EXISTS (SELECT 1 FROM job WHERE job.batch_seq = batch.seq)
