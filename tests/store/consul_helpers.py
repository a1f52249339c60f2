"""What the tests of the Consul store share."""

import asyncio
import secrets
from collections.abc import Awaitable, Callable

from services.consul import ConsulCluster

from xchronos.store.consul import ConsulStore
from xchronos.store.consul_access import ConsulAccess

Make = Callable[..., ConsulCluster]
Open = Callable[[ConsulAccess], Awaitable[ConsulStore]]


def access(cluster: ConsulCluster, **options) -> ConsulAccess:
    """How the cluster is reached, with a prefix that nobody else has, and with patience for a busy machine."""
    agents = tuple(url.partition("//")[2] for url in cluster.addresses)
    return ConsulAccess(**{"agents": agents, "prefix": f"test-{secrets.token_hex(6)}", "timeout": 30.0, **options})


async def until(condition: Callable[[], Awaitable[bool]], patience: float = 30) -> None:
    """Wait for something to become true."""
    async with asyncio.timeout(patience):
        while not await condition():  # noqa: ASYNC110
            await asyncio.sleep(0.02)


__all__ = ["ConsulStore", "Make", "Open", "access", "until"]
