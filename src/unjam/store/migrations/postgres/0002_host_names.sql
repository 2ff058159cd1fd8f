-- `host` holds the id of a machine from now on: two may have one name. The name stays for people. Whose files the
-- committed units of unfinished jobs are is not known by a name that several may have: they are done again.
ALTER TABLE worker ADD COLUMN host_name TEXT NOT NULL DEFAULT '';
ALTER TABLE attempt ADD COLUMN host_name TEXT NOT NULL DEFAULT '';
UPDATE worker SET host_name = host;
UPDATE attempt SET host_name = host;
