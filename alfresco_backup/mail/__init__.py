"""Wording and sending of alerts."""
