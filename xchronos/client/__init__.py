"""The typed client of a daemon's HTTP API. It is synchronous, uses the standard library's HTTP, and is quick to import.

`test_importing_it_costs_little` in tests/cli/test_client.py holds what it may import.
"""

from xchronos.client.client import Client
from xchronos.wire.address import ADDRESS, ADDRESS_VARIABLE, TOKEN_VARIABLE

__all__ = ["ADDRESS", "ADDRESS_VARIABLE", "TOKEN_VARIABLE", "Client"]
