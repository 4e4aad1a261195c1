"""All that could stop a backup or a restore."""
