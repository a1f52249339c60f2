"""Writes until the disk has no room, then gets room again; asserts on the way. The argument: the file of the store.

The disk is the process's own limit on the size of files, which is real to SQLite and harms nobody else.
"""

import asyncio
import resource
import sys

import pytest

from xchronos.errors import StoreUnavailable
from xchronos.store import Delete, Put, Txn
from xchronos.store.sqlite.store import SqliteStore

LIMIT = 3_000_000
HALF = 40_000


def limit_files(size: int) -> None:
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, resource.RLIM_INFINITY))


def pair(number: int) -> Txn:
    return Txn((), [Put(f"/p/{number:04d}/{part}", bytes(HALF)) for part in "ab"])


async def main(path: str) -> None:
    store = await SqliteStore.open(path)
    lease = await store.grant(60)
    limit_files(LIMIT)

    # Rewriting needs no more room than the log has, once that is emptied: nobody hears of the full disk.
    for number in range(200):
        await store.commit(Txn((), [Put("/same", bytes([number]) * HALF)]))
    assert (await store.commit(Txn((), [Delete("/same")]))).succeeded

    acknowledged = []
    async with store.watch("/p/") as batches:
        for number in range(1000):
            try:
                await store.commit(pair(number))
            except StoreUnavailable as error:
                reason = str(error)
                break
            acknowledged.append(number)
        assert 5 < len(acknowledged) < 1000
        assert path in reason
        with pytest.raises(StoreUnavailable):
            await store.commit_many([pair(2000), pair(2001)])
        page = await store.range("/p/", keys_only=True)
        assert [item.key for item in page.items] == [f"/p/{n:04d}/{part}" for n in acknowledged for part in "ab"]
        await store.renew(lease)

        limit_files(resource.RLIM_INFINITY)
        healed = await store.commit(pair(3000))
        assert healed.revision == page.revision + 1
        seen = []
        while "/p/3000/b" not in seen:
            seen += [event.key for event in (await anext(batches)).events]
        assert seen == [f"/p/{n:04d}/{part}" for n in [*acknowledged, 3000] for part in "ab"]
    await store.close()

    store = await SqliteStore.open(path)
    page = await store.range("/p/", keys_only=True)
    assert [item.key for item in page.items] == seen
    assert page.revision == healed.revision
    await store.renew(lease)
    await store.close()
    print(f"healed after {len(acknowledged)}")


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1]))
