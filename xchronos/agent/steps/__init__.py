"""What a unit's steps become on this machine: the unit with its specifiers resolved, and a spec for each step."""
