"""The contract, on a store whose event loop runs in another thread."""

import asyncio
import threading
from pathlib import Path

from xchronos.aio import Elsewhere
from xchronos.store import Store
from xchronos.store.elsewhere import StoreElsewhere
from xchronos.store.sqlite.store import SqliteStore
from xchronos.testing.store import StoreContract


class TestStoreElsewhere(StoreContract):
    ttl = 0.3

    async def open_store(self, directory: Path) -> Store:
        loop = asyncio.new_event_loop()

        def run() -> None:
            loop.run_forever()
            loop.run_until_complete(loop.shutdown_asyncgens())
            loop.close()

        threading.Thread(target=run, daemon=True).start()
        opened = Elsewhere(loop).run(SqliteStore.open(directory / "store.db", synchronous="normal"))
        return StoreElsewhere(await opened, Elsewhere(loop))
