"""What comes after what: one file a verb."""
