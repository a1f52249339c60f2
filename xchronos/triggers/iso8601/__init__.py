"""ISO 8601 repeating intervals."""
