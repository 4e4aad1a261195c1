"""A restore: planned, journalled, done, undone."""
