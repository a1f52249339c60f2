"""Cron expressions: five, six or seven fields, Quartz's day items, hashed values, and `@every`.

Nothing is imported here; take what you need from the modules.

- `expression`: `parse_cron`, and the dialect in words. Start here.
- `fields`: one field's text, which becomes a bit mask.
- `days`: the days on which a schedule fires.
- `trigger`: the trigger, which maps wall times to instants around changes of the clock.
- `every`: `@every <duration>`.
"""
