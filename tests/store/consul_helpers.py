"""What the tests of the Consul store share."""

import secrets
from collections.abc import Awaitable, Callable

from tests.services.consul import ConsulCluster
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.store import ConsulStore

Make = Callable[..., ConsulCluster]
Open = Callable[[ConsulAccess], Awaitable[ConsulStore]]


def access(cluster: ConsulCluster, **options) -> ConsulAccess:
    """How the cluster is reached, with a prefix that nobody else has, and with patience for a busy machine."""
    agents = tuple(url.partition("//")[2] for url in cluster.addresses)
    return ConsulAccess(**{"agents": agents, "prefix": f"test-{secrets.token_hex(6)}", "timeout": 30.0, **options})


__all__ = ["ConsulStore", "Make", "Open", "access"]
