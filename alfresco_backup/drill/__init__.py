"""Restore drills: a backup restored beside the live host, checked, and removed.

Read place (where), plan (what is restored, and checked against what), server (the isolated server), verdict
(what counts against the set). The result is kept with the base backup: backup/proof. A drill reads the
repository only: WAL and data of the live server do not count. It does not show that Alfresco starts on the
restored data.
"""
