"""Where jobs live: one port, SQLite (and PostgreSQL) behind it, one .sql file per statement."""
