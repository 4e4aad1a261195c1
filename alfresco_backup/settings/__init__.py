"""The .env of a host, and every command that a message tells people to type."""
