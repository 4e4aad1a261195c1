"""What a restore does to the host, written down before it is done."""
