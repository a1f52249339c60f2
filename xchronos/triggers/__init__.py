"""When a unit fires: pure values that answer "when next?" (TIME.md).

Every trigger implements `Trigger`. Instants are microseconds since the epoch, UTC.
"""
