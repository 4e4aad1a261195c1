"""The repository (BACKUP_DIR) on disk: where what is, and what of it is a backup.

In order: `layout` has the names on disk and the table of components; `records` what a backup is made of, with
its metadata, and `days` the days of a snapshot; `sets` which parts belong together, `sets_table` how a set is
shown; `catalogue` reads all of it; `pins` are the sets that retention never removes. `predecessor` and
`predecessor_tar` read what the scripts before this software left.

A set that is listed is complete as far as its names, metadata and sizes tell. That it can be restored is
verified by a restore drill; that the WAL it needs is there, by the WAL audit.
"""
