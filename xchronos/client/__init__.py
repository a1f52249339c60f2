"""The typed client of a daemon's HTTP API: synchronous, over the standard library alone, and quick to import."""

from xchronos.client.client import ADDRESS, ADDRESS_VARIABLE, TOKEN_VARIABLE, Client

__all__ = ["ADDRESS", "ADDRESS_VARIABLE", "TOKEN_VARIABLE", "Client"]
