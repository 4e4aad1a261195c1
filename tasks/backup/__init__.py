"""The steps of `backup`."""
