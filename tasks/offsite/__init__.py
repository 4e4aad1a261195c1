"""The steps of the off-site flows: what needs Prefect of sending, checking and pruning the second copy."""
