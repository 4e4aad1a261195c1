"""The steps of `restore-drill`."""
