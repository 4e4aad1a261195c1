"""BACKUP_DIR on disk: layout, metadata, catalogue, sets, pins, the predecessor."""
