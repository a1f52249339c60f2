"""The checker finds what is broken: each test breaks one thing in a sound history."""

import os
import subprocess
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.cluster import sink
from tests.cluster.checker import Disturbance, Run, Violation, check, every, lateness, overlaps, runs, told
from tests.cluster.sink import Event, Key, Sink
from xchronos.model.policies import Outcome
from xchronos.model.records import Attempt, Execution, Missed, StepResult

T0 = datetime(2030, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
FIRES = every(SECOND, T0, T0 + 4 * SECOND)
DUE = {"a.service": FIRES}


class Story:
    """Five fire times that went well, to be broken."""

    def __init__(self) -> None:
        self.events: list[Event] = []
        self.history: list[Execution] = []
        for fire in FIRES:
            self.add(fire)

    def add(self, fire: datetime, **changes: Any) -> None:
        key = Key("a.service", fire, 0, 1)
        begin = fire + timedelta(milliseconds=20)
        self.events += [Event("start", key, "m1", begin.timestamp()), Event("end", key, "m1", begin.timestamp() + 0.1)]
        attempt = Attempt(
            1, "m1", started_at=fire, ended_at=begin + timedelta(milliseconds=110), outcome=Outcome.SUCCEEDED
        )
        whole: dict[str, Any] = {
            "state": "ended", "trigger": "cron", "claimed_at": fire + timedelta(milliseconds=5),
            "attempts": (attempt,), "outcome": Outcome.SUCCEEDED,
        }  # fmt: skip
        self.history.append(Execution("a.service", fire, 0, **(whole | changes)))

    def check(self) -> list[Violation]:
        return check(self.events, self.history, DUE)


def change(story: Story, number: int, **changes: Any) -> None:
    story.history[number] = msgspec.structs.replace(story.history[number], **changes)


def change_attempt(story: Story, number: int, **changes: Any) -> None:
    attempt = msgspec.structs.replace(story.history[number].attempts[0], **changes)
    change(story, number, attempts=(attempt,))


def test_a_sound_history_has_no_violation() -> None:
    assert Story().check() == []


def gap(first: datetime, last: datetime, count: int) -> dict[str, Any]:
    return {"outcome": Outcome.MISSED, "attempts": (), "missed": Missed(first, last, count, "FIRE_NOW")}


def started_twice(story: Story) -> None:
    story.events.append(story.events[0]._replace(machine="m2"))


def forgotten(story: Story) -> None:
    del story.history[2], story.events[4:6]


def recorded_twice(story: Story) -> None:
    story.history.append(story.history[0])


def in_two_gaps(story: Story) -> None:
    del story.events[2:4]
    change(story, 1, **gap(FIRES[1], FIRES[2], 2))


def miscounted_gap(story: Story) -> None:
    del story.events[2:4]
    change(story, 1, **gap(FIRES[1], FIRES[1], 2))


def never_due(story: Story) -> None:
    story.add(T0 + 0.5 * SECOND)


def unended(story: Story) -> None:
    change(story, 1, state="running", outcome=None)


def unreasoned(story: Story) -> None:
    change(story, 1, outcome=Outcome.FAILED)


def early(story: Story) -> None:
    story.events[0] = story.events[0]._replace(when=T0.timestamp() - 0.1)


def claimed_early(story: Story) -> None:
    change(story, 1, claimed_at=FIRES[1] - timedelta(milliseconds=1))


def unrecorded_start(story: Story) -> None:
    change(story, 0, attempts=(), outcome=Outcome.SKIPPED, reason="still running")


def second_attempt_unrecorded(story: Story) -> None:
    event = story.events[0]
    story.events.append(event._replace(key=event.key._replace(attempt=2)))


def never_ran(story: Story) -> None:
    del story.events[:2]


def never_ended(story: Story) -> None:
    del story.events[1]


def never_began(story: Story) -> None:
    del story.events[0]


def elsewhere(story: Story) -> None:
    change_attempt(story, 0, machine="m2")


def not_started(story: Story) -> None:
    change_attempt(story, 0, started_at=None)


def recorded_before_its_end(story: Story) -> None:
    change_attempt(story, 0, ended_at=T0 + timedelta(milliseconds=50))


@pytest.mark.parametrize(
    ("damage", "invariants", "words"),
    [
        (started_twice, ["I1"], "started 2 times, on m1, m2"),
        (forgotten, ["I2"], "was due and has no record"),
        (recorded_twice, ["I2"], "has 2 records"),
        (in_two_gaps, ["I2"], "has 2 records"),
        (miscounted_gap, ["I2"], "stands for 2 misses, there are 1"),
        (never_due, ["I2"], "was never due"),
        (unended, ["I2"], "has not ended: running"),
        (unreasoned, ["I2"], "failed without a reason"),
        (early, ["I3"], "started 0.100 s early on m1"),
        (claimed_early, ["I3"], "claimed at 2030-01-01T00:00:00.999"),
        (unrecorded_start, ["I4"], "is in the sink (end, start) and not in the history"),
        (second_attempt_unrecorded, ["I4"], "is in the sink (start) and not in the history"),
        (never_ran, ["I4"], "the sink has no start"),
        (never_ended, ["I4"], "the sink has no end"),
        (never_began, ["I4", "I4"], "ended in the sink without a start"),
        (elsewhere, ["I4"], "ran on m1, and the history says on m2"),
        (not_started, ["I4"], "the history says that it never started"),
        (recorded_before_its_end, ["I4"], "had its end recorded before it ended"),
    ],
)
def test_what_is_broken_is_found(damage: Callable[[Story], None], invariants: list[str], words: str) -> None:
    story = Story()
    damage(story)
    found = story.check()
    assert [violation.invariant for violation in found] == invariants
    assert words in told(found)


def test_a_gap_stands_for_the_fire_times_in_it() -> None:
    story = Story()
    del story.history[1:3], story.events[2:6]
    story.add(FIRES[2], **gap(FIRES[1], FIRES[2], 2))
    del story.events[-2:]
    assert story.check() == []


def test_started_by_hand_needs_no_fire_time() -> None:
    story = Story()
    story.add(T0 + 0.5 * SECOND, trigger="manual")
    assert story.check() == []


def test_a_lost_attempt_may_have_run_or_not() -> None:
    story = Story()
    lost = Attempt(1, "m1", started_at=T0, ended_at=T0, outcome=Outcome.LOST)
    second = msgspec.structs.replace(story.history[0].attempts[0], number=2, machine="m2")
    change(story, 0, attempts=(lost, second))
    for kind, event in (("start", story.events[0]), ("end", story.events[1])):
        assert event.kind == kind
        story.events.append(event._replace(key=event.key._replace(attempt=2), machine="m2"))
    assert story.check() == []
    story.events = [event for event in story.events if event.key != Key("a.service", T0, 0, 1)]
    assert story.check() == []


def test_an_attempt_may_stand_for_an_earlier_one_that_went_on_there() -> None:
    story = Story()
    lost = Attempt(1, "m1", started_at=T0, ended_at=T0, outcome=Outcome.LOST)
    second = msgspec.structs.replace(story.history[0].attempts[0], number=2)
    change(story, 0, attempts=(lost, second))
    assert story.check() == []
    change(story, 0, attempts=(lost, msgspec.structs.replace(second, machine="m2")))
    assert "attempt 2 | succeeded, and the sink has no start" in told(story.check())
    change(story, 0, attempts=(lost, msgspec.structs.replace(second, steps=(StepResult("start-0", "", "succeeded"),))))
    assert "attempt 2 | succeeded, and the sink has no start" in told(story.check())


def test_every_copy_needs_its_record() -> None:
    story = Story()
    found = check(story.events, story.history, DUE, copies=2)
    assert {violation.what for violation in found} == {"was due and has no record"}
    assert len(found) == len(FIRES)


def test_runs_that_overlap_are_found() -> None:
    story = Story()
    assert list(overlaps(story.events)) == []
    beat = story.events[1]._replace(kind="beat", when=FIRES[2].timestamp() + 0.5)
    killed = [story.events[0], *story.events[2:], beat]
    found = list(overlaps(killed))
    assert [violation.where for violation in found] == [
        f"a.service 2030-01-01T00:00:0{second}.000000Z copy 0 attempt 1" for second in (1, 2)
    ]
    assert "began on m1 1.480 s before a.service 2030-01-01T00:00:00.000000Z copy 0 attempt 1 was over" in told(found)


def test_a_run_lasts_until_its_end_or_its_last_beat() -> None:
    start, end = Story().events[:2]
    beat = end._replace(kind="beat")
    assert runs([start, beat]) == [Run(start.key, "m1", start.when, end.when, ended=False)]
    assert runs([start, end]) == [Run(start.key, "m1", start.when, end.when, ended=True)]
    assert runs([start]) == [Run(start.key, "m1", start.when, start.when, ended=False)]


def test_lateness_knows_who_was_disturbed() -> None:
    story = Story()
    change(story, 1, claimed_at=FIRES[1] + timedelta(milliseconds=70))
    change(story, 3, claimed_at=FIRES[3] + timedelta(milliseconds=900))
    quiet = lateness(story.history, [], 2)
    assert quiet == pytest.approx((0.9, 0))
    moved = lateness(story.history, [Disturbance(FIRES[2].timestamp() + 0.5, frozenset(DUE))], 1)
    assert moved == pytest.approx((0.07, 0.9))
    others = lateness(story.history, [Disturbance(FIRES[2].timestamp() + 0.5, frozenset(["b.service"]))], 1)
    assert others == pytest.approx((0.9, 0))
    assert lateness(story.history, [], 2, lambda fire, claimed: 0.8).surviving == pytest.approx(0.1)


def test_the_sink_is_read_as_it_was_written(tmp_path: Path) -> None:
    path = tmp_path / "sink"
    Sink(path, "m1").write("start", "end", execution="a.service/20300101T000000.000000Z/1", attempt=3)
    begin, end = sink.read(path)
    assert (begin.kind, end.kind) == ("start", "end")
    assert begin.key == Key("a.service", T0, 1, 3)
    assert begin.machine == "m1"
    with path.open("a") as file:
        file.write("begin a.service/20300101T000000.000000Z/1 3 m1 1.0\n")
    with pytest.raises(ValueError, match="not a line of the sink"):
        sink.read(path)


def test_a_shell_reports_to_the_sink_by_itself(tmp_path: Path) -> None:
    path = tmp_path / "sink"
    line = sink.shell_line(str(path), "sleep 0.2")
    script = line.removeprefix("/bin/sh -c '").removesuffix("'").replace("$$", "$")
    environment = os.environ | {
        "XCHRONOS_EXECUTION": "a.service/20300101T000000.000000Z/0",
        "XCHRONOS_ATTEMPT": "1",
        "XCHRONOS_MACHINE": "m7",
    }
    before = time.time()
    subprocess.run(["/bin/sh", "-c", script], env=environment, check=True)
    begin, end = sink.read(path)
    assert before - 0.02 < begin.when < before + 5
    assert end.when - begin.when > 0.15
    assert (begin.key, begin.machine) == (Key("a.service", T0, 0, 1), "m7")
