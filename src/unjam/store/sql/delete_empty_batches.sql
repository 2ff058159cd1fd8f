DELETE FROM batch WHERE NOT EXISTS (SELECT 1 FROM job WHERE job.batch_seq = batch.seq)
