"""What a machine may do by what it knows of its lease, and when."""

from xchronos.agent.lease.lease_clock import KILL_AT, STOP_AT, LeaseClock
from xchronos.clock import HOUR, SECOND
from xchronos.testing.clock import VirtualClock

TTL = 10 * SECOND


def test_the_stages_are_counted_from_before_the_question() -> None:
    clock = VirtualClock()
    lease_clock = LeaseClock(clock, TTL)
    assert lease_clock.stage == "over"  # it has not joined
    asked = clock.monotonic()
    clock.advance(2 * SECOND)  # the answer took its time
    lease_clock.renewed(asked)
    assert (lease_clock.stage, lease_clock.stops_in, lease_clock.kills_in) == ("good", 4 * SECOND, 6 * SECOND)
    clock.advance(4 * SECOND)
    assert (lease_clock.stage, lease_clock.stops_in) == ("stopping", 0)
    clock.advance(2 * SECOND - 1)
    assert (lease_clock.stage, lease_clock.lapses) == ("stopping", 0)
    clock.advance(1)
    assert (lease_clock.stage, lease_clock.lapses) == ("over", 1)
    clock.advance(TTL)
    assert (lease_clock.stage, lease_clock.lapses) == ("over", 1)


def test_a_jump_of_the_wall_clock_means_nothing() -> None:
    clock = VirtualClock()
    lease_clock = LeaseClock(clock, TTL)
    lease_clock.renewed(clock.monotonic())
    for jump in (HOUR, -2 * HOUR):
        clock.jump(jump)
        assert (lease_clock.stage, lease_clock.stops_in, lease_clock.lapses) == ("good", 6 * SECOND, 0)


def test_a_lapse_counts_once_however_it_is_learnt() -> None:
    clock = VirtualClock()
    lease_clock = LeaseClock(clock, TTL)
    lease_clock.lapse()  # nothing was held
    lease_clock.renewed(0)
    lease_clock.lapse()
    assert (lease_clock.stage, lease_clock.lapses) == ("over", 1)
    lease_clock.renewed(clock.monotonic())
    assert (lease_clock.stage, lease_clock.lapses) == ("good", 1)
    clock.advance(TTL)
    assert lease_clock.lapses == 2
    lease_clock.lapse()
    assert lease_clock.lapses == 2
    lease_clock.renewed(clock.monotonic())
    clock.advance(TTL)
    lease_clock.renewed(clock.monotonic())  # the lease had survived; nobody here could know
    assert (lease_clock.stage, lease_clock.lapses) == ("good", 3)


def test_a_store_of_its_own_is_never_lost() -> None:
    clock = VirtualClock()
    lease_clock = LeaseClock(clock, TTL, alone=True)
    lease_clock.renewed(0)
    clock.advance(HOUR)
    assert (lease_clock.stage, lease_clock.stops_in, lease_clock.kills_in, lease_clock.lapses) == (
        "good",
        None,
        None,
        0,
    )
    lease_clock.lapse()
    assert (lease_clock.stage, lease_clock.lapses) == ("good", 1)


def test_who_listens_hears_of_every_move() -> None:
    heard = []
    lease_clock = LeaseClock(VirtualClock(), TTL)
    lease_clock.listen(lambda: heard.append(lease_clock.stops_in))
    lease_clock.renewed(0)
    lease_clock.lapse()
    assert heard == [6 * SECOND, 0]


def test_the_margins_leave_room_for_the_killing() -> None:
    assert STOP_AT < KILL_AT <= 0.8
