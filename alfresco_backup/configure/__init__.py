"""`configure`: making PostgreSQL, its role and the folders of a host ready for backups, and undoing that.

In order: `server` and `places` inspect the host; `settings`, `access` and `places` decide which changes are
needed (pure), `plan` puts them together; `changes` are their records; `apply` makes them and verifies them,
one by one in `steps`, each in the `journal` first; `restart` restarts PostgreSQL where that is asked for;
`undo` undoes a journal; `superuser` finds a connection that may do all this; `as_text` shows plan and result.

An existing line of pg_hba.conf, a sufficient setting and a foreign archive_command are never changed unasked.
Undo goes by what is there, so changes made by others since are left and named.
"""
