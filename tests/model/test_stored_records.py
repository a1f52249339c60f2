"""What is stored can be read by a person, and by another version of xchronos."""

from datetime import UTC, datetime, timedelta, timezone

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.clock import MINUTE, SECOND
from xchronos.model.lifecycle import AttemptState
from xchronos.model.policies import Misfire, MisfirePolicy, Outcome, Retry
from xchronos.model.records import (
    Attempt,
    Capacity,
    DropIn,
    Execution,
    Machine,
    MachineWish,
    Missed,
    Schedule,
    SchedulerRecord,
    StepResult,
    TriggerState,
    UnitRecord,
    fire_key,
)
from xchronos.model.unit import Service, Step, Unit
from xchronos.unitfile.execline import ExecLine
from xchronos.unitfile.fleet.requirements import FleetRequirements

NOON = datetime(2030, 12, 1, 12, tzinfo=UTC)
SAMPLES = [
    UnitRecord(
        "[Service]\n", "abc", "ann", NOON, "a.service", "paused", (DropIn("10-x.conf", "x"),), "Zg==", NOON, True, "f"
    ),
    Schedule(
        "a.service", 7, "f", NOON, NOON, (TriggerState(NOON, NOON, 3, 4, NOON), TriggerState()), 3, True, "finished"
    ),
    Execution(
        "a.service",
        NOON,
        1,
        "running",
        "cron",
        attempts=(
            Attempt(
                1,
                "m1",
                NOON,
                NOON,
                NOON,
                Outcome.FAILED,
                "exit code 3",
                steps=(StepResult("start-0", "/bin/x", "failed", NOON, NOON, 3, "", True, "why", "c1"),),
            ),
        ),
        current=Attempt(2, "m2"),
    ),
    Execution("a.service", NOON, outcome=Outcome.MISSED, missed=Missed(NOON, NOON, 5, "SMART_POLICY")),
    Machine("m1", metadata={"region": "eu"}, executors=("docker",), capacity=Capacity(4, 1024, 2.5), cordoned=True),
    Machine("m1", metadata={"a": "1"}, cordoned=True, cordon_reason="disk", drain_until=NOON, configured={}),
    SchedulerRecord("m1", "8f14e45f"),
    MachineWish({"region": "us", "disk": None}, cordoned=True, cordon_reason="disk", drain_until=NOON),
]
# What the first version wrote, with no more than it had to write.
OLDEST = [
    (UnitRecord, "{}", UnitRecord()),
    (UnitRecord, '{"text":"[Service]\\n"}', UnitRecord("[Service]\n")),
    (
        Schedule,
        '{"unit":"a.service","unit_revision":1,"fingerprint":"f","accepted_at":"2030-12-01T12:00:00Z","anchor":"2030-12-01T12:00:00Z"}',
        Schedule("a.service", 1, "f", NOON, NOON),
    ),
    (Execution, '{"unit":"a.service","fire_time":"2030-12-01T12:00:00Z"}', Execution("a.service", NOON)),
    (Attempt, '{"number":1,"machine":"m1"}', Attempt(1, "m1")),
    (StepResult, '{"name":"start-0","command":"x","outcome":"ignored"}', StepResult("start-0", "x", "ignored")),
    (Machine, '{"id":"m1"}', Machine("m1")),
    (MachineWish, "{}", MachineWish()),
    (SchedulerRecord, '{"id":"m1"}', SchedulerRecord("m1")),
]


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_record_survives_the_store(record):
    text = msgspec.json.encode(record)
    assert msgspec.json.decode(text, type=type(record)) == record


@pytest.mark.parametrize("record", SAMPLES, ids=lambda record: type(record).__name__)
def test_a_newer_versions_fields_do_not_hinder_an_older_reader(record):
    newer = {**msgspec.json.decode(msgspec.json.encode(record)), "v": 2, "invented_later": {"a": [1]}}
    read = msgspec.json.decode(msgspec.json.encode(newer), type=type(record))
    assert read == msgspec.structs.replace(record, v=2)


@pytest.mark.parametrize(("kind", "text", "expected"), OLDEST, ids=[kind.__name__ for kind, _, _ in OLDEST])
def test_an_older_versions_records_decode(kind, text, expected):
    assert msgspec.json.decode(text, type=kind) == expected


def test_what_is_written_is_short_and_readable():
    assert msgspec.json.encode(Execution("a.service", NOON, 1)) == (
        b'{"unit":"a.service","fire_time":"2030-12-01T12:00:00Z","copy":1,"state":"waiting"}'
    )


def test_records_are_immutable():
    for record in SAMPLES:
        with pytest.raises(AttributeError):
            record.v = 9  # type: ignore[attr-defined]


def test_the_identity_of_an_execution():
    at = datetime(2030, 12, 1, 10, tzinfo=UTC)
    assert Execution("a@1.service", at, 3).id == "a@1.service/20301201T100000.000000Z/3"


instants = st.datetimes(datetime(1, 1, 1), datetime(9999, 12, 31)).map(lambda at: at.replace(tzinfo=UTC))  # noqa: DTZ001


@given(instants, instants)
def test_fire_keys_sort_like_the_time_and_lose_nothing(first, second):
    assert (fire_key(first) < fire_key(second)) == (first < second)
    assert datetime.strptime(fire_key(first), "%Y%m%dT%H%M%S.%fZ").replace(tzinfo=UTC) == first


def test_records_carry_utc_so_that_keys_do():
    text = '{"unit":"a.service","fire_time":"2030-12-01T12:00:00Z"}'
    read = msgspec.json.decode(text, type=Execution)
    assert read.fire_time.utcoffset() == timedelta(0)
    assert read.fire_time != datetime(2030, 12, 1, 12, tzinfo=timezone(timedelta(hours=1)))


def test_the_policies_defaults_are_the_documents():
    assert Misfire() == Misfire(MisfirePolicy.SMART, MINUTE, 100)
    assert Retry() == Retry(1, 0, "constant", None)
    assert len(MisfirePolicy) == 7
    assert {outcome.value for outcome in Outcome} == {
        "succeeded", "failed", "timed_out", "cancelled", "lost", "missed", "skipped",
    }  # fmt: skip


def test_units():
    line = ExecLine("", "/bin/true", ("/bin/true",))
    phases: list[tuple[str, AttemptState]] = [("start-pre-0", "start-pre"), ("start-0", "start"), ("start-1", "start")]
    steps = tuple(Step(name=name, phase=phase, line=line, text="/bin/true", docker=False) for name, phase in phases)
    service = Service(steps=steps)
    assert service.phase("start") == steps[1:]
    assert service.phase("stop") == ()
    assert service.timeout_start == 90 * SECOND
    assert not Unit("a.service", "r").is_global
    assert Unit("a.service", "r", requirements=FleetRequirements(is_global=True)).is_global
