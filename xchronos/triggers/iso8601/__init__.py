"""ISO 8601 repeating intervals: `TriggerISO8601=R5/2030-01-01T00:00:00Z/PT10M`.

Nothing is imported here; take what you need from the modules.

- `trigger`: `parse_iso8601` and the trigger, with the rules for months, days and elapsed time. Start here.
- `text`: the readers of durations and date-times.
"""
