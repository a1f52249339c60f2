"""systemd's OnCalendar expressions."""
