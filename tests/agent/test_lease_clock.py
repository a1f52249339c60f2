"""What a machine may do by what it knows of its lease, and when."""

from xchronos.agent.lease.lease_clock import KILL_AT, STOP_AT, LeaseClock
from xchronos.clock import HOUR, SECOND
from xchronos.testing.clock import VirtualClock

TTL = 10 * SECOND


def test_the_stages_are_counted_from_before_the_question() -> None:
    clock = VirtualClock()
    contact = LeaseClock(clock, TTL)
    assert contact.stage == "over"  # it has not joined
    asked = clock.monotonic()
    clock.advance(2 * SECOND)  # the answer took its time
    contact.renewed(asked)
    assert (contact.stage, contact.stops_in, contact.kills_in) == ("good", 4 * SECOND, 6 * SECOND)
    clock.advance(4 * SECOND)
    assert (contact.stage, contact.stops_in) == ("stopping", 0)
    clock.advance(2 * SECOND - 1)
    assert (contact.stage, contact.lapses) == ("stopping", 0)
    clock.advance(1)
    assert (contact.stage, contact.lapses) == ("over", 1)
    clock.advance(TTL)
    assert (contact.stage, contact.lapses) == ("over", 1)


def test_a_jump_of_the_wall_clock_means_nothing() -> None:
    clock = VirtualClock()
    contact = LeaseClock(clock, TTL)
    contact.renewed(clock.monotonic())
    for jump in (HOUR, -2 * HOUR):
        clock.jump(jump)
        assert (contact.stage, contact.stops_in, contact.lapses) == ("good", 6 * SECOND, 0)


def test_a_lapse_counts_once_however_it_is_learnt() -> None:
    clock = VirtualClock()
    contact = LeaseClock(clock, TTL)
    contact.lapse()  # nothing was held
    contact.renewed(0)
    contact.lapse()
    assert (contact.stage, contact.lapses) == ("over", 1)
    contact.renewed(clock.monotonic())
    assert (contact.stage, contact.lapses) == ("good", 1)
    clock.advance(TTL)
    assert contact.lapses == 2
    contact.lapse()
    assert contact.lapses == 2
    contact.renewed(clock.monotonic())
    clock.advance(TTL)
    contact.renewed(clock.monotonic())  # the lease had survived; nobody here could know
    assert (contact.stage, contact.lapses) == ("good", 3)


def test_a_store_of_its_own_is_never_lost() -> None:
    clock = VirtualClock()
    contact = LeaseClock(clock, TTL, alone=True)
    contact.renewed(0)
    clock.advance(HOUR)
    assert (contact.stage, contact.stops_in, contact.kills_in, contact.lapses) == ("good", None, None, 0)
    contact.lapse()
    assert (contact.stage, contact.lapses) == ("good", 1)


def test_who_listens_hears_of_every_move() -> None:
    heard = []
    contact = LeaseClock(VirtualClock(), TTL)
    contact.listen(lambda: heard.append(contact.stops_in))
    contact.renewed(0)
    contact.lapse()
    assert heard == [6 * SECOND, 0]


def test_the_margins_leave_room_for_the_killing() -> None:
    assert STOP_AT < KILL_AT <= 0.8
