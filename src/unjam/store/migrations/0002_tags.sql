-- Tags are searched, so they have rows of their own.
CREATE TABLE tag (
    job_seq INTEGER NOT NULL REFERENCES job (seq) ON DELETE CASCADE,
    key     TEXT NOT NULL,
    value   TEXT NOT NULL,
    PRIMARY KEY (job_seq, key)
) STRICT, WITHOUT ROWID;
CREATE INDEX tag_key ON tag (key, value);

INSERT INTO tag (job_seq, key, value)
SELECT d.job_seq, t.key, t.value
FROM job_detail AS d, json_each(d.spec, '$.tags') AS t;
