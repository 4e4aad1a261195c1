"""The steps of `find-document` and `restore-document`."""
