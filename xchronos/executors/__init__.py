"""Runs one step of an attempt: in a container, as a host process, as a call. `contract` says what that promises."""
