-- The first schema. Times are seconds on the store's clock; JSON is text; ids of jobs in other tables are job.seq.

-- Every change of state there is: an event that claims another one is refused by its foreign key.
CREATE TABLE transition (
    before TEXT NOT NULL,
    after  TEXT NOT NULL,
    PRIMARY KEY (before, after)
) STRICT, WITHOUT ROWID;

INSERT INTO transition (before, after) VALUES
    ('queued', 'running'), ('queued', 'paused'), ('queued', 'cancelled'),
    ('waiting', 'queued'), ('waiting', 'paused'), ('waiting', 'cancelled'), ('waiting', 'failed'),
    ('running', 'succeeded'), ('running', 'partial'), ('running', 'skipped'), ('running', 'failed'),
    ('running', 'cancelled'), ('running', 'queued'), ('running', 'paused'), ('running', 'cancelling'),
    ('cancelling', 'cancelled'), ('cancelling', 'failed'),
    ('paused', 'queued'), ('paused', 'waiting'), ('paused', 'cancelled'),
    ('failed', 'queued'), ('failed', 'waiting'),
    ('cancelled', 'queued'), ('cancelled', 'waiting'),
    ('partial', 'queued'), ('partial', 'waiting');

CREATE TABLE meta (
    key   TEXT PRIMARY KEY,
    value TEXT NOT NULL
) STRICT, WITHOUT ROWID;

CREATE TABLE queue (
    name      TEXT PRIMARY KEY,
    paused_by TEXT
) STRICT, WITHOUT ROWID;

-- Jobs that are claimed in the order of their run_at: one queue, one pipeline, one priority. A claim looks at the
-- heads of the lanes that its worker serves, so its cost does not grow with what it may not take.
CREATE TABLE lane (
    id       INTEGER PRIMARY KEY,
    queue    TEXT NOT NULL REFERENCES queue (name),
    pipeline TEXT NOT NULL,
    priority INTEGER NOT NULL,
    UNIQUE (queue, pipeline, priority)
) STRICT;

CREATE TABLE batch (
    seq        INTEGER PRIMARY KEY,
    id         TEXT NOT NULL UNIQUE,
    source     TEXT NOT NULL,
    created_at REAL NOT NULL
) STRICT;

-- The hot row: all that claims, leases and requests touch, and nothing else.
CREATE TABLE job (
    seq              INTEGER PRIMARY KEY,
    id               TEXT NOT NULL UNIQUE,
    lane_id          INTEGER NOT NULL,
    state            TEXT NOT NULL,
    run_at           REAL NOT NULL,
    created_at       REAL NOT NULL,
    batch_seq        INTEGER,
    dedupe_key       TEXT,
    output_path      TEXT,
    cpu              INTEGER NOT NULL,
    memory_bytes     INTEGER NOT NULL,
    gpu              INTEGER NOT NULL,
    fence            INTEGER NOT NULL DEFAULT 0,
    attempts         INTEGER NOT NULL DEFAULT 0,
    failures         INTEGER NOT NULL DEFAULT 0,
    crashes          INTEGER NOT NULL DEFAULT 0,
    losses           INTEGER NOT NULL DEFAULT 0,
    phase            TEXT,
    requested        TEXT,
    request_code     TEXT,
    request_message  TEXT,
    worker_id        TEXT,
    host             TEXT,
    lease_expires_at REAL,
    heartbeat_at     REAL,
    reason_code      TEXT,
    reason_message   TEXT,
    started_at       REAL,
    finished_at      REAL,

    -- The shape of each state. Written as one CASE with the first state first, not as IN lists: those are built
    -- anew for every row and made a bulk submission a third slower.
    -- INV-ONCE, INV-LOCK: a live job holds one whole lease, any other job holds none.
    -- INV-TORN: past the point of no return nothing can be asked any more.
    -- INV-TRUTH: an end has a time and a reason, what goes on has no end.
    CHECK (CASE
        WHEN state = 'queued' OR state = 'waiting' OR state = 'paused' THEN
            lease_expires_at IS NULL AND worker_id IS NULL AND host IS NULL
            AND phase IS NULL AND requested IS NULL AND finished_at IS NULL
        WHEN state = 'running' THEN
            lease_expires_at IS NOT NULL AND worker_id IS NOT NULL AND host IS NOT NULL
            AND (phase = 'starting' OR phase = 'working' OR phase = 'verifying' OR phase = 'publishing')
            AND (requested IS NULL OR (requested = 'pause' AND phase <> 'publishing')) AND finished_at IS NULL
        WHEN state = 'cancelling' THEN
            lease_expires_at IS NOT NULL AND worker_id IS NOT NULL AND host IS NOT NULL
            AND phase IS NULL AND requested IS 'cancel' AND finished_at IS NULL
        WHEN state = 'succeeded' OR state = 'partial' OR state = 'skipped' OR state = 'failed'
            OR state = 'cancelled' THEN
            lease_expires_at IS NULL AND worker_id IS NULL AND host IS NULL
            AND phase IS NULL AND requested IS NULL AND finished_at IS NOT NULL AND reason_code IS NOT NULL
        ELSE false
    END IS TRUE),
    CHECK ((requested IS NULL) = (request_code IS NULL) AND (request_code IS NULL) = (request_message IS NULL)),
    CHECK ((reason_code IS NULL) = (reason_message IS NULL))
) STRICT;

-- All that a claim looks at; without `state` SQLite 3.40 would read the row to test the condition again.
CREATE INDEX job_claim ON job (lane_id, run_at, seq, cpu, memory_bytes, gpu, state) WHERE state = 'queued';
CREATE INDEX job_live ON job (host, worker_id, lease_expires_at, cpu, memory_bytes, gpu)
    WHERE lease_expires_at IS NOT NULL;
CREATE INDEX job_state ON job (state, seq);
CREATE INDEX job_batch ON job (batch_seq, seq) WHERE batch_seq IS NOT NULL;
CREATE INDEX job_finished ON job (finished_at) WHERE finished_at IS NOT NULL;
-- INV-DUP: one active job a key. Ended ones keep theirs under their own number and are found by the same index.
CREATE UNIQUE INDEX job_dedupe ON job (dedupe_key, iif(finished_at IS NULL, 0, seq)) WHERE dedupe_key IS NOT NULL;
CREATE UNIQUE INDEX job_output ON job (output_path) WHERE output_path IS NOT NULL AND finished_at IS NULL;

-- The cold row: what was asked for, written once and read when somebody looks.
CREATE TABLE job_detail (
    job_seq          INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    name             TEXT NOT NULL,
    pipeline_version INTEGER NOT NULL,
    -- One document: params, inputs, tags and the rest that is not searched. Encoding each by itself cost 8 us more.
    spec             TEXT NOT NULL
) STRICT;

CREATE TABLE dependency (
    job_seq   INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    after_id  TEXT NOT NULL,
    satisfied INTEGER NOT NULL DEFAULT 0 CHECK (satisfied IN (0, 1)),
    PRIMARY KEY (job_seq, after_id)
) STRICT, WITHOUT ROWID;
CREATE INDEX dependency_after ON dependency (after_id) WHERE NOT satisfied;

CREATE TABLE progress (
    job_seq     INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    progress    REAL NOT NULL,
    eta_seconds REAL,
    message     TEXT NOT NULL,
    advanced_at REAL,
    stalled     TEXT,
    usage       TEXT
) STRICT;

CREATE TABLE stage (
    job_seq        INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    name           TEXT NOT NULL,
    position       INTEGER NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('pending', 'running', 'succeeded', 'failed', 'interrupted')),
    progress       REAL NOT NULL,
    message        TEXT NOT NULL,
    units_done     INTEGER NOT NULL,
    units_total    INTEGER NOT NULL,
    started_at     REAL,
    ended_at       REAL,
    reason_code    TEXT,
    reason_message TEXT,
    PRIMARY KEY (job_seq, name)
) STRICT, WITHOUT ROWID;

CREATE TABLE attempt (
    job_seq        INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    fence          INTEGER NOT NULL,
    worker_id      TEXT NOT NULL,
    host           TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('starting', 'running', 'succeeded', 'failed', 'interrupted')),
    identity       TEXT,
    pid            INTEGER,
    containment    TEXT,
    log_path       TEXT,
    reason_code    TEXT,
    reason_message TEXT,
    started_at     REAL NOT NULL,
    ended_at       REAL,
    peak_rss_bytes INTEGER,
    cpu_seconds    REAL,
    units_reused   INTEGER NOT NULL DEFAULT 0,
    PRIMARY KEY (job_seq, fence),
    CHECK ((state IN ('starting', 'running')) = (ended_at IS NULL)),
    CHECK ((ended_at IS NULL) = (reason_code IS NULL))
) STRICT, WITHOUT ROWID;

CREATE TABLE plan (
    job_seq   INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    stage     TEXT NOT NULL,
    -- What was proposed first; `digest` differs from it after a revision, and either finds the plan again.
    proposed  TEXT NOT NULL,
    digest    TEXT NOT NULL,
    revision  INTEGER NOT NULL,
    body      TEXT NOT NULL,
    PRIMARY KEY (job_seq, stage)
) STRICT, WITHOUT ROWID;

-- Rows are replaced when they are committed, so that ids are in the order of commits.
CREATE TABLE unit (
    id             INTEGER PRIMARY KEY,
    job_seq        INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    stage          TEXT NOT NULL,
    name           TEXT NOT NULL,
    state          TEXT NOT NULL CHECK (state IN ('pending', 'running', 'committed', 'failed')),
    progress       REAL NOT NULL,
    fence          INTEGER NOT NULL,
    uri            TEXT,
    size_bytes     INTEGER,
    sha256         TEXT,
    result         TEXT,
    host           TEXT,
    reason_code    TEXT,
    reason_message TEXT,
    UNIQUE (job_seq, stage, name)
) STRICT;

CREATE TABLE artifact (
    job_seq    INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    name       TEXT NOT NULL,
    kind       TEXT NOT NULL,
    path       TEXT NOT NULL,
    size_bytes INTEGER NOT NULL,
    sha256     TEXT NOT NULL,
    media      TEXT,
    PRIMARY KEY (job_seq, name)
) STRICT, WITHOUT ROWID;

-- The point of no return of one attempt: all that any worker needs to roll it forward.
CREATE TABLE publish (
    job_seq INTEGER PRIMARY KEY REFERENCES job (seq) ON DELETE CASCADE,
    fence   INTEGER NOT NULL,
    outputs TEXT NOT NULL,
    outcome TEXT NOT NULL
) STRICT;

-- Append-only. job_seq is no reference: this insert is on the path of every submission.
CREATE TABLE event (
    id         INTEGER PRIMARY KEY,
    at         REAL NOT NULL,
    job_seq    INTEGER,
    attempt    INTEGER,
    kind       TEXT NOT NULL,
    state_from TEXT,
    state_to   TEXT,
    data       TEXT NOT NULL,
    CHECK (state_from IS NULL OR state_to IS NOT NULL),
    CHECK (state_from IS NOT NULL OR state_to IS NULL OR state_to = 'queued' OR state_to = 'waiting'),
    FOREIGN KEY (state_from, state_to) REFERENCES transition (before, after)
) STRICT;
CREATE INDEX event_job ON event (job_seq, id);

CREATE TABLE worker (
    id              TEXT PRIMARY KEY,
    host            TEXT NOT NULL,
    identity        TEXT NOT NULL,
    keeper_identity TEXT,
    mark            INTEGER NOT NULL,
    queues          TEXT,
    slots           INTEGER NOT NULL,
    pipelines       TEXT NOT NULL,
    wake_path       TEXT,
    started_at      REAL NOT NULL,
    heartbeat_at    REAL NOT NULL,
    expires_at      REAL NOT NULL,
    draining        INTEGER NOT NULL CHECK (draining IN (0, 1))
) STRICT, WITHOUT ROWID;

CREATE TABLE attachment (
    watcher_id TEXT NOT NULL,
    job_seq    INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    expires_at REAL NOT NULL,
    PRIMARY KEY (watcher_id, job_seq)
) STRICT, WITHOUT ROWID;
CREATE INDEX attachment_job ON attachment (job_seq);
