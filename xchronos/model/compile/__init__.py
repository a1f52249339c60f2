"""From a unit file to a unit: every section's keys, with all problems at once."""
