"""What can be restored and what is wrong, for people and programs."""
