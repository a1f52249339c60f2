"""Units, policies, schedules, executions, machines, and the two state tables: immutable values, no I/O."""
