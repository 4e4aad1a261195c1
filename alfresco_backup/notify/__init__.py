"""Alerts about runs: their wording (`messages`, pure) and how they are handed to a mail server (`smtp`).

Which run is worth an alert is decided in tasks/alerts. That a mail arrives is not promised, only that the
mail server took it.
"""
