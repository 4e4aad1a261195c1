"""What every run needs of Prefect: the host lock (`host_lock`, with `lock_lease` over Prefect's limit),
history and artifacts (`history`), progress, cancelling, logs, and the embedded server of runs without a
configured one.
"""
