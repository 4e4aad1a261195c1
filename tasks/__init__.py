"""One step each: looks at or changes the world, returns a small frozen record, or raises."""
