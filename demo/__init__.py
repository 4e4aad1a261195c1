"""A demo host with a real PostgreSQL cluster and a real contentstore; the tests use it too."""
