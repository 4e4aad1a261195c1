"""What a restore does to the host, written to disk before it is done.

Read journal_record (acts, states, reading), journal (writing, and the changes that are noted), unfinished
(what an interrupted restore stops). A journal tells what was begun; whether it happened, the undo inspects.
"""
