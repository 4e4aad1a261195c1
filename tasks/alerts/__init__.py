"""Hooks, the watch, lost and missed runs."""
