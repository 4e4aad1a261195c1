"""What of the repository is kept and what goes, each with the reason.

In order: `policy` has the records: settings, verdict, plan; `inventory` reads what the catalogue does not
list; `periods` chooses the sets of weeks, months and years, `bases` has the rules for base backups,
`snapshots` those for snapshots and configurations, `wal_and_days` those for all the rest; `plan` puts their
verdicts together and says the rules in words; `outlook` says until when a thing is kept. These are pure but
for `inventory`. `apply` reads a repository, plans and does exactly the plan; `removal` deletes below a
folder.

What a rule does not know is kept. Nothing here judges whether a backup can be restored.
"""
