"""Reading many keys with few requests: by pages, and one by one only where they lie far apart."""

import asyncio
from collections.abc import AsyncIterator, Iterable, MutableMapping

from xchronos.errors import StoreUnavailable
from xchronos.store.contract import KeyValue, Page, Store

KEYS_PER_PAGE = 1_000
"""How many keys a page has. Between pages other tasks get a turn."""

FIRST, MOST = 128, 512
"""How many keys `read_some` reads at a time: at first, and at most. Each page that pays doubles the next."""

PAYS = 8
"""A page pays when at least one in so many of its keys was wanted."""


async def pages(
    store: Store, prefix: str, *, keys_only: bool = False, least: int = 0, size: int = KEYS_PER_PAGE
) -> AsyncIterator[Page]:
    """Everything under a prefix, page by page. Each page shows its own moment, so they are no consistent read.

    Raises StoreUnavailable when the store answers with a state before the revision `least`.
    """
    start = ""
    while True:
        page = await store.range(prefix, start=start, limit=size, keys_only=keys_only)
        if page.revision < least:
            raise StoreUnavailable(f"the store answers as of revision {page.revision}, before {least}")
        yield page
        if not page.more:
            return
        start = page.items[-1].key + "\0"
        await asyncio.sleep(0)


async def snapshot(
    store: Store,
    prefix: str,
    *,
    start: str = "",
    limit: int = 0,
    keys_only: bool = False,
    revision: int = 0,
    size: int = KEYS_PER_PAGE,
) -> AsyncIterator[Page]:
    """The keys under a prefix, in pages that are all as of the same revision. There is at least one page.

    Args:
        store: What is read.
        prefix: What the keys begin with.
        start: The keys before this one are left out.
        limit: At most so many keys, all pages together; 0: no limit.
        keys_only: The values are left empty.
        revision: As of when; 0: as of the first page, which is of now. Each page tells it.
        size: The most keys of a page.

    Raises:
        Compacted: The store has forgotten that revision.
    """
    left = limit
    while True:
        wanted = min(left, size) if limit else size
        page = await store.range(prefix, start=start, limit=wanted, keys_only=keys_only, revision=revision)
        yield page
        left -= len(page.items)
        if not page.more or (limit and left <= 0):
            return
        start, revision = page.items[-1].key + "\0", page.revision


async def read_some(
    store: Store, prefix: str, names: Iterable[str], near: MutableMapping[str, KeyValue] | None = None
) -> dict[str, KeyValue]:
    """Those of the named keys under a prefix that exist, by name; each shows its own moment. Raises StoreError.

    A caller that is likely to want the neighbours next passes `near`. It gets what was read besides the wanted keys,
    and bigger pages are read for it. See `test_what_lies_together_is_read_together`.
    """
    wanted = sorted(set(names))
    found: dict[str, KeyValue] = {}
    size, lone = (FIRST, PAYS) if near is None else (MOST, 1)
    at = 0
    while at < len(wanted):
        if len(wanted) - at > lone:
            page = await store.range(prefix, start=prefix + wanted[at], limit=size)
            here = {item.key[len(prefix) :]: item for item in page.items}
            last = page.items[-1].key[len(prefix) :] if page.more else None
            hits = 0
            while at < len(wanted) and (last is None or wanted[at] <= last):
                item = here.get(wanted[at])
                if item is not None:
                    found[wanted[at]] = item
                    hits += 1
                at += 1
            if near is not None:
                near.update((name, item) for name, item in here.items() if name not in found)
            if hits * PAYS >= len(here):
                size = min(2 * size, MOST)
                continue
        # The wanted keys lie far apart, and most of a page would be other keys: read them one by one
        # (`test_what_lies_apart_does_not_drag_everything_along`).
        rest = wanted[at : at + FIRST // 2]
        at += len(rest)
        items = await asyncio.gather(*(store.get(prefix + name) for name in rest))
        found.update((name, item) for name, item in zip(rest, items, strict=True) if item is not None)
    return found
