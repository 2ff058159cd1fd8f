-- Each connection of ours has one row: the number of its last transaction that was committed (or, where the
-- answer to a commit was lost, that is kept from ever being committed: void). The number of a transaction in
-- PostgreSQL itself does not do for that: after a crash it may be given to another one.
CREATE TABLE receipt (
    token  TEXT PRIMARY KEY,
    number BIGINT NOT NULL DEFAULT 0,
    void   BIGINT NOT NULL DEFAULT 0,
    at     TIMESTAMPTZ NOT NULL DEFAULT clock_timestamp()
) WITH (fillfactor = 50);
