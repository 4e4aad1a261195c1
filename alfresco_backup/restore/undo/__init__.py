"""From the journal of a restore back to the former host."""
