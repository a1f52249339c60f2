"""The commands of xchronosctl, each imported when it is called."""
