"""What several tests need: hosts, clusters, repositories, servers, stories."""
