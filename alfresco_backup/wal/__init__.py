"""The WAL archive: what is in it, what can be restored from it, and what is wrong with it.

In order: `contents` reads the archive file by file; `judge` says which files are what their names promise;
`chain` puts the usable segments in order along the timelines; `window` says from when to when a base backup
can be restored, and where a gap is. `archiver` judges what the server says of archiving; `audit` puts all of
it together, `audit_table` shows it. From `judge` on these are pure. `observe` asks server and disk and runs
the audit; `timelines` tells the server's own timelines from foreign ones. `archive` is what a backup does
with the archive: prove archiving, wait for a file, copy one.

Nothing here removes or changes an archived file. That a WAL record within a segment is valid is left to
PostgreSQL. `archive_command` builds and parses the line that runs archive-wal.
"""
