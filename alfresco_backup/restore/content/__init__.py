"""Filling a content store from snapshots.

Read fill_differences (what is missing or differs), fill_rsync (how it is copied), fill (all of it, and what
its undo needs), filled (whether the store is still the one that was filled), whole (a new store in place of
one), sound (which stored files are damaged). Nothing is deleted from a store. Whether every document has its
file is for the content check in contentstore/.
"""
