"""The machine: programs, files, accounts, mounts, signals."""
