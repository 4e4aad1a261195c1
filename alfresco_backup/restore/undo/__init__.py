"""From the journal of a restore back to the host as it was before.

Read undo_plan (which actions, in which order), then undo_actions (what each does). Data that was removed by
hand cannot be brought back; an undo refuses then, before it changes anything.
"""
