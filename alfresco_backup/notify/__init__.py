"""Alerts about runs: their wording (`messages`, pure) and the ways to tell people (`deliver`).

The ways are a mail server (`smtp`) and the services that apprise knows (`urls`, by the process `child`);
`ping` signals a monitoring service, by the process `ping_child`.
Which run is worth an alert is decided in tasks/alerts. That it arrives is not promised, only that a server
took it.
"""
