"""Waiting for what happens elsewhere and sets no event."""

import asyncio
from collections.abc import Awaitable, Callable
from inspect import isawaitable


async def until(
    condition: Callable[[], object | Awaitable[object]], what: str = "the condition", patience: float = 30.0
) -> None:
    """Wait until something is true, or awaited to be; fail after `patience` seconds."""
    loop = asyncio.get_running_loop()
    end = loop.time() + patience
    while True:
        outcome = condition()
        if isawaitable(outcome):
            async with asyncio.timeout_at(end):
                outcome = await outcome
        if outcome:
            return
        if loop.time() > end:
            raise AssertionError(f"{what} does not come true within {patience:g} s")
        await asyncio.sleep(0.01)
