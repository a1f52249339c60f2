"""systemd's calendar events (systemd.time(7)): `TriggerCalendar=Mon..Fri *-*-* 09:00:00 Europe/Berlin`.

Nothing is imported here; take what you need from the modules.

- `trigger`: `parse_calendar` and the trigger, which maps wall times to instants. Start here.
- `text`: the reader of the text and its normal form.
- `grid`: the wall times that match an event.
"""
