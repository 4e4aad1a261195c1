"""What a PostgreSQL server is: versions, programs, queries, pg_hba.conf, WAL file names, timelines."""
