"""Store: what was paid for and what a team works on, in a SQLite file or on a PostgreSQL server."""
