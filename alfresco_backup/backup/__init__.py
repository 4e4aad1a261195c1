"""The base backup: method, copy, verdict, space."""
