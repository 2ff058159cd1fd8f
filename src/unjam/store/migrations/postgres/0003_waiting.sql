-- Why a job waits is told from what its machine has, and from when a silent stage will count as stalled.
ALTER TABLE worker ADD COLUMN cpu INTEGER NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN memory_bytes BIGINT NOT NULL DEFAULT 0;
ALTER TABLE worker ADD COLUMN gpu INTEGER NOT NULL DEFAULT 0;
-- Slots held by processes that cannot be killed.
ALTER TABLE worker ADD COLUMN stuck INTEGER NOT NULL DEFAULT 0;
ALTER TABLE progress ADD COLUMN stall_at DOUBLE PRECISION;

-- Its results are an input: it is not removed as long as the job that waited for it is active.
ALTER TABLE dependency ADD COLUMN is_input INTEGER NOT NULL DEFAULT 0;
DROP INDEX dependency_after;
CREATE INDEX dependency_after ON dependency (after_id, satisfied);
