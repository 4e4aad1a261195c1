"""The steps of `find-document` and `restore-document`: what needs Prefect of finding documents."""
