"""What comes after what: one file a verb."""

from tasks.runs.run_logs import show_known_errors_in_words

show_known_errors_in_words()
