"""The steps of the restores."""
