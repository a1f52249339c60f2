"""Commits numbered Txns until it is killed, and writes a line for each once it is acknowledged.

Arguments: the file of the store, the first number. The lines: `<number> <revision>`.
"""

import asyncio
import os
import sys
from itertools import count

from xchronos.store import Delete, Guard, Put, Txn
from xchronos.store.sqlite.store import SqliteStore

PARTS = 5


def numbered(number: int) -> Txn:
    """Several keys that appear together, one that is rewritten, and one that disappears later."""
    parts = [Put(f"/t/{number:08d}/{part}", b"%d" % number * 50) for part in range(PARTS)]
    return Txn(
        [Guard(f"/t/{number:08d}/0", 0)], [*parts, Delete(f"/old/{number - 50:08d}"), Put(f"/old/{number:08d}", b"")]
    )


async def main(path: str, first: int) -> None:
    store = await SqliteStore.open(path)
    numbers = count(first)

    async def lane() -> None:
        while True:
            mine = [next(numbers) for _ in range(3)]
            for number, result in zip(mine, await store.commit_many([numbered(n) for n in mine]), strict=True):
                assert result.succeeded
                os.write(1, b"%d %d\n" % (number, result.revision))

    await asyncio.gather(*(lane() for _ in range(4)))


if __name__ == "__main__":
    asyncio.run(main(sys.argv[1], int(sys.argv[2])))
