"""WAL streaming: pg_receivewal beside the server, so that commits are safe within milliseconds.

Read: slot.py (the replication slot on the server), folder.py (the files that are received), receiver.py (the
service), state.py (what it notes, and what status makes of it).

Does not promise that no commit is lost: only synchronous_standby_names does, which the administrator sets.
"""
