"""Content stores: scan, plan, copy, link, checksums, re-reading, content check."""
