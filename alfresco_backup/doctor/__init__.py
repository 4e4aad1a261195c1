"""Doctor: everything that could keep a host from being backed up or restored, and what fixes it.

In order: `doctor` lists the checks and runs them side by side within a time limit; `context` reads what they
have in common, once; `places`, `archive`, `alfresco`, `backups`, `clock`, `mail` and `prefect_server` are the
checks by group, most of them the preflight's and the status's own with more beside; `prefect_view` asks the
Prefect server; `report` is the result for people and as JSON.

Nothing is changed on the host but by the two options that say so. What cannot be found by reading is not
found: whether a backup restores is what a restore drill shows.
"""
