"""When a machine that is not there counts as lost."""

import asyncio
from contextlib import suppress
from types import SimpleNamespace
from typing import cast

import pytest

from xchronos.clock import MILLISECOND, SECOND, Micros
from xchronos.engine.lost_machines import LostMachines
from xchronos.engine.shards.ownership import Ownership
from xchronos.engine.state.cluster_state import ClusterState
from xchronos.engine.state.work_queue import WorkQueue
from xchronos.testing.clock import VirtualClock, run_virtual


def lost_after(ttl: Micros, *, gone: Micros = 0, back: Micros | None = None, heard_since: Micros = -3600 * SECOND):
    """How long it takes until a machine that is `gone` at a time is passed on; it may come `back`.

    The store has been heard `heard_since`, by the same clock.
    """

    async def watch(clock: VirtualClock) -> Micros | None:
        lease = SimpleNamespace(heard=clock.monotonic() >= heard_since, heard_since=heard_since)
        machines: dict[str, object] = {}
        work = WorkQueue()
        ownership = cast("Ownership", SimpleNamespace(lease=lease))
        state = cast("ClusterState", SimpleNamespace(machines=machines))
        lost_machines = LostMachines(clock, ttl, ownership, state, work)
        running = asyncio.create_task(lost_machines.run())
        passed_on = None
        while passed_on is None and clock.monotonic() < 60 * SECOND:
            now = clock.monotonic()
            lease.heard = now >= heard_since
            if now == gone:
                lost_machines.gone("m1")
            if now == back:
                machines["m1"] = object()
            if work.lost_machines:
                passed_on = now
            await clock.sleep(100 * MILLISECOND)
        running.cancel()
        with suppress(asyncio.CancelledError):
            await running
        assert work.lost_machines == (set() if passed_on is None else {"m1"})
        return passed_on

    return run_virtual(watch)


@pytest.mark.parametrize("ttl", [3, 10])
def test_it_is_lost_at_once_while_the_store_is_heard(ttl):
    assert lost_after(ttl * SECOND, gone=2 * SECOND) <= 2 * SECOND + 100 * MILLISECOND


@pytest.mark.parametrize(("ttl", "grace"), [(1, 5), (3, 5), (10, 10)])
def test_it_has_time_to_join_anew_when_the_store_was_away(ttl, grace):
    """A whole TTL; where that is short, what finding a member that answers may take."""
    heard_since = 20 * SECOND
    lost = lost_after(ttl * SECOND, gone=heard_since, heard_since=heard_since)
    assert heard_since + grace * SECOND <= lost <= heard_since + (grace + ttl) * SECOND


def test_nobody_is_lost_while_the_store_is_away():
    assert lost_after(3 * SECOND, heard_since=3600 * SECOND) is None


def test_who_has_joined_anew_is_not_lost():
    heard_since = 20 * SECOND
    back = heard_since + 4 * SECOND
    assert lost_after(3 * SECOND, gone=heard_since, back=back, heard_since=heard_since) is None
