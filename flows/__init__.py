"""What comes after what: one file a verb, read as a table of contents; docstrings are for operators."""
