"""Who is told of a run: hooks mail its end (`hooks`, with what they say of it in `facts`), `watch` checks
what no hook sees: overdue backups, lost runs (`lost_runs`); `missed_runs` skips what a newer run does too.
"""
