"""Restore drills beside the live host."""
