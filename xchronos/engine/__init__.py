"""The scheduler role: decides, for the shards it owns, what is due, where it goes, and what follows an end."""
