"""Checks before a backup."""
