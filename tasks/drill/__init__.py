"""The steps of `restore-drill`, as Prefect tasks: drill (restore and check), reread (content), report."""
