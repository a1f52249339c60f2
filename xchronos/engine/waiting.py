"""Waiting for news, but not for ever."""

import asyncio

from xchronos.clock import Clock, Micros


async def woken(clock: Clock, event: asyncio.Event, limit: Micros) -> None:
    """Wait until the event is set, and set it after `limit` at the latest."""
    timer = asyncio.ensure_future(clock.sleep(limit))
    timer.add_done_callback(lambda done: None if done.cancelled() else event.set())
    try:
        await event.wait()
    finally:
        timer.cancel()
