"""Fixtures of the stores' tests."""

from collections.abc import AsyncIterator

import pytest

from tests.store.consul_helpers import Open
from xchronos.store.consul.access import ConsulAccess
from xchronos.store.consul.store import ConsulStore


@pytest.fixture
async def opening() -> AsyncIterator[Open]:
    """Opens stores that are closed when the test ends."""
    stores = []

    async def opened(place: ConsulAccess) -> ConsulStore:
        stores.append(await ConsulStore.open(place))
        return stores[-1]

    yield opened
    for store in stores:
        await store.close()
