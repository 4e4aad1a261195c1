"""The .env of a host, and every command that a message tells people to type.

In order: `model` lists the settings with their meaning, default and limits; `libpq` the variables that are
passed on to psql; `env_file` reads one `.env` and names everything wrong in it at once; `commands` builds the
commands of messages, so that each works as printed in a new root shell.

Whether a folder or server that a setting names exists is not checked here but by the preflight.
"""
