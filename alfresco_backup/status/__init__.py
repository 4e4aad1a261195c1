"""Status: what can be restored, what is kept and why, and what is wrong, from BACKUP_DIR alone.

In order: `facts` reads repository, archive and disk; `assess` makes the report of them, a record of `report`;
`problems` judges it, `disk_trend` foresees the disk, `freshness` judges the age of the newest set, `runs`
tells of the last runs; `as_text`, `as_json` and `as_html` (framed by `web_page`, which alone writes) show
it. All but `facts` and `freshness.restorable_window` is pure.

Neither PostgreSQL nor Prefect is asked: WAL that the server has not archived yet is not counted. Nothing is
written but a page that was asked for.
"""
