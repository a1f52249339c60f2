"""The commands of `xchronosctl`. Each module is imported when one of its commands is called."""
