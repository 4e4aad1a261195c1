"""The machine: programs, files, accounts, mounts, signals.

In order: `processes` is the only place that starts a program, with a time limit and as the right account;
`accounts` and `folders` keep root from following what other accounts put on its path; `files` writes so that
a power cut loses nothing; `mounts` knows what is mounted; `signals` keeps interruptions from being lost;
`waiting` is the one loop with a limit; `json_fields` and `zstd_files` read two formats.

Nothing here knows of backups.
"""
