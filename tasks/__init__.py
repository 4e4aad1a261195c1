"""What needs Prefect: the steps of the flows, the limit of a host, hooks, history, artifacts."""
