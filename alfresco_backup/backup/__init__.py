"""The base backup of the database, and what belongs to a set besides content.

In order: `make` makes a base backup. It chooses the method (`base`, with what judges the result), runs
pg_basebackup (`base_copy`), reads the tars while they are written (`tar_verify`) and asks the server
(`server`). `configuration` copies keystore, shared classes and Solr backups. `space` says how much a run
will need, `concerns` what a published set should be warned of, `report` how it is shown. `proof` is the
result of a set's last restore drill.

A base backup that is published contains every file its manifest lists, with sizes, and the WAL that makes it
consistent. Whether its pages are sound is left to the server's checksums and to restore drills.
"""
