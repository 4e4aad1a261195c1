"""What every run needs of Prefect: the limit of a host, history, progress, the embedded server."""
