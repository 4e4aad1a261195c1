"""What of the repository is kept and what goes: policy, verdicts, removal."""
