"""Content stores: their snapshots, re-reading of what is stored, and the check of a database's content.

A snapshot, in order: `scan` reads the directories, `plan` decides which days changed, `rsync` has the
commands and reads what rsync says, `first_copy` takes rsync's place where much is copied that no version
holds, `snapshot_copy` copies, `links` and `snapshot_tree` make and publish the tree of links; `checksums` are
recorded meanwhile. `reread` and `reread_day` read stored content again and
compare it. The content check: `check` judges rows and files, `check_queries` asks the database, `check_files`
looks for the files, `check_findings` lists what is missing.

A quick snapshot does not see a file that was changed in place, which Alfresco never does; the content check
compares sizes, not contents.
"""
