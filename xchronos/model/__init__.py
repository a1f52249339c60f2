"""The values of the domain: units, policies, schedules, executions, machines, and the two state tables.

All values are immutable. Nothing here does I/O. Start with `unit.Unit`, which is the meaning of one unit file, and with
`records.Execution`, which is what becomes of one fire time of it.

- `unit`, `policies`, `conditions`: the compiled unit and its choices.
- `compile`: the way from a unit file's text to a `Unit`, with every problem and its line.
- `records`: what is written to the store.
- `lifecycle`: the states of an execution and of an attempt, as two tables.
- `reference`: every key that xchronos owns, as data for the README.
"""
