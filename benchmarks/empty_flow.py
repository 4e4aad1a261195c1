"""A flow that does nothing and imports nothing but Prefect: the measure in benchmarks.prefect_fleet."""

from prefect import flow


@flow(name="empty")
def empty() -> None:
    """Nothing."""
