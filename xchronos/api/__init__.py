"""The HTTP API of a daemon. Import from its modules: the client reads `wire` without the cost of a web framework."""
