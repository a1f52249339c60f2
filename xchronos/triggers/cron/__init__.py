"""Cron expressions: Vixie's dialect with seconds, years, Quartz's day words, and `@every`."""
