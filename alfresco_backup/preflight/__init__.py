"""Preflight: what could stop a backup, found before anything is copied.

In order: `rules` judges facts (pure) and refuses on errors; `files` checks what PostgreSQL's account can read
and write, and tests the file system of BACKUP_DIR; `database` asks the server; `host` runs all of it for the
chosen components. Doctor and the checks before a restore use the same functions.

Only `check_file_system` and `check_archiving` write: a folder that is removed again, and a restore point.
That a disk does not fill up during the run is not promised, only that the expected size fits.
"""
