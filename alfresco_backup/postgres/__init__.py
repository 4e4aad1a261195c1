"""What a PostgreSQL server is: versions, programs, queries, configuration files, WAL file names, timelines.

In order: `versions` is the one table of what differs between 9.4 and 18; `programs` finds psql and the rest;
`database` asks a server through psql; `rights` are those of a role that makes backups; `conf_file` reads and
writes the text of configuration files; `wal_files`, `timelines` and `backup_label` know the names and formats
of WAL. All but `programs`, `database` and `rights` is pure.

An unknown version is an error, never a guess. pg_hba.conf is not interpreted: whether it lets a role in is
found out by connecting.
"""
