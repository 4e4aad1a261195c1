"""The WAL archive: contents, chain, window, audit."""
