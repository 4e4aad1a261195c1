"""The steps of the restores, as Prefect tasks.

In the order of a restore: plan, begin, database, recovery, content, content_check, finish, opening; then undo
and undo_outcome. session runs a restore for the command line. What needs no Prefect is in
alfresco_backup/restore.
"""
