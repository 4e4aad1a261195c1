"""The database of a restore: extraction, recovery settings, replay, verdict."""
