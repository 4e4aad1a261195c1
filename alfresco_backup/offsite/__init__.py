"""The second copy in another place: what is sent there, what counts as being there, how it comes back.

The engine is restic, which encrypts, packs and deduplicates. One restic snapshot per backup ID contains what
that run made, and small ones that wait together share one; another kind contains the WAL archive. In order:
`engine` runs restic; `far` is what is there, by backup ID; `shipments` decides what is to be sent; `copy`
sends it.

It does not promise that whoever has this host's key to that place cannot remove the copy: that is for the
place to prevent (docs/how-to/off-site-copy.md).
"""
