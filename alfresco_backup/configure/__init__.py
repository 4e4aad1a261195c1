"""Making PostgreSQL and places ready."""
