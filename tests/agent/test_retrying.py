"""Asking again, and not all at once."""

from xchronos.agent.retrying import ClockChance, patiently
from xchronos.aio import spread
from xchronos.clock import MILLISECOND, SECOND
from xchronos.errors import StoreUnavailable
from xchronos.testing.clock import VirtualClock, run_virtual


def test_pauses_are_spread_within_their_bounds() -> None:
    clock, found = VirtualClock(), set()
    for _ in range(1000):
        clock.advance(1237 * MILLISECOND)
        pause = spread(SECOND, ClockChance(clock))
        assert SECOND // 2 <= pause <= SECOND
        found.add(pause // (50 * MILLISECOND))
    assert len(found) >= 10, "over the whole range"
    assert spread(1, ClockChance(clock)) in (0, 1)


def test_machines_that_lost_the_store_together_do_not_come_back_together() -> None:
    """Each has been up for a time of its own, so each hears of the store's return at a moment of its own."""

    def comes_back(booted: int) -> int:
        async def main(clock: VirtualClock) -> int:
            clock.advance(booted)
            away, began = 60 * SECOND, clock.monotonic()

            async def ask() -> int:
                if clock.monotonic() - began < away:
                    raise StoreUnavailable("away")
                return clock.monotonic() - began - away

            return await patiently(clock, ask, what="store")

        return run_virtual(main)

    late = [comes_back(booted * 977_771) for booted in range(20)]
    assert max(late) - min(late) > SECOND
    assert max(late) <= 5 * SECOND
