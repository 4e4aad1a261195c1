"""Putting the software onto a host: set-up, Prefect deployments, systemd units, WAL commands."""
