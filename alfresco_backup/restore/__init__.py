"""Restores of a host: database, content store, or both, to a backup or to a target time; and their undo.

In reading order: planning (what a restore would do, or why it is refused), journal (what it does to the host,
written before it is done), recovery and content (what it does), undo (what reverses it). The tasks of
tasks/restore carry a plan out in the order of flows/restore_full.py. Nothing here deletes present data: it is
set aside, and removed only when its restore is discarded.
"""
