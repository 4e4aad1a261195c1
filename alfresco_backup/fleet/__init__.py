"""Fleet: all hosts of one Prefect server in one table and one page, from what their own runs publish.

In order: `record` is what a host publishes, made of its status; `assess` judges what was read of all hosts;
`show` tells it. All of it is pure: tasks/runs/fleet.py reads and writes the server.

No host is logged in to. A record says what was so when its run ended; one that is older than REPORT_HOURS,
missing, or not the host's own is trouble of that host.
"""
