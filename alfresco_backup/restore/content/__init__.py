"""Filling a content store from snapshots."""
