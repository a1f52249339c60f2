"""Decisions as pure functions: (what is known, now) -> what to do, with reasons. No I/O, no clock, no randomness."""
