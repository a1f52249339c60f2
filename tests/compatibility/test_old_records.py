"""Every record that the commit 89caaa6 wrote is understood whole: no field of it has lost its name or its meaning."""

import json
from pathlib import Path

import msgspec
import pytest

from tests.compatibility.old_data import FIXTURES, Row, rows
from tests.compatibility.old_units import LATIN, scheduled, started
from xchronos.clock import EPOCH
from xchronos.model import records
from xchronos.registry.keys import SHARDS, shard_of
from xchronos.registry.units import compile_record, text_of

ETC, VAR = "/xchronos/etc/", "/xchronos/var/"
KINDS = {
    f"{ETC}jobs/": records.UnitRecord,
    f"{ETC}executors/": records.Machine,
    f"{ETC}machines/": records.MachineWish,
    f"{VAR}scheduler/members/": records.SchedulerRecord,
    f"{VAR}schedules/": records.Schedule,
    f"{VAR}pending/": records.Execution,
    f"{VAR}placements/": records.Execution,
    f"{VAR}executions/": records.Execution,
}
"""What each key holds, as the old commit spelt it."""

BARE = (f"{VAR}scheduler/election", f"{VAR}scheduler/shards/", f"{VAR}pulse/scheduler/")
"""What has no record: the name of a machine, or a number."""

OLD_NAMES = {
    "UnitRecord": records.UnitRecord,
    "Schedule": records.Schedule,
    "Execution": records.Execution,
    "Machine": records.Machine,
    "MachineWish": records.MachineWish,
    "SchedulerRecord": records.SchedulerRecord,
}
"""What the records were called."""

JOBS, SHARD = f"{ETC}jobs/", f"{VAR}scheduler/shards/"
SINGLE, CLUSTER = rows("single"), rows("cluster")
EVERY_FIELD = [json.loads(line) for line in (FIXTURES / "every_field.jsonl").read_text().splitlines()]


def kind_of(row: Row) -> type | None:
    return next((kind for prefix, kind in KINDS.items() if row.key.startswith(prefix)), None)


@pytest.mark.parametrize("old", [SINGLE, CLUSTER], ids=["single", "cluster"])
def test_every_key_is_known_and_every_record_says_what_it_said(old: list[Row]) -> None:
    for row in old:
        kind = kind_of(row)
        if kind is None:
            assert row.key.startswith(BARE), row.key
            continue
        record = msgspec.json.decode(row.value, type=kind)
        assert json.loads(msgspec.json.encode(record)) == row.record, row.key


@pytest.mark.parametrize("line", EVERY_FIELD, ids=[line["kind"] for line in EVERY_FIELD])
def test_no_field_of_a_record_has_lost_its_name(line: dict) -> None:
    record = msgspec.json.decode(json.dumps(line["json"]), type=OLD_NAMES[line["kind"]])
    assert json.loads(msgspec.json.encode(record)) == line["json"]


def test_each_kind_of_record_is_among_them() -> None:
    assert {kind_of(row) for row in [*SINGLE, *CLUSTER]} - {None} == set(KINDS.values())
    assert {line["kind"] for line in EVERY_FIELD} == set(OLD_NAMES)


def test_executions_in_every_state_and_with_every_outcome_are_among_them() -> None:
    executions = [row.record for row in [*SINGLE, *CLUSTER] if kind_of(row) is records.Execution]
    states = {"waiting", "queued", "delayed", "placed", "running", "reported", "ended"}
    assert {execution["state"] for execution in executions} == states
    outcomes = {"succeeded", "failed", "timed_out", "cancelled", "lost", "missed", "skipped"}
    assert {execution.get("outcome") for execution in executions} - {None} == outcomes
    assert max(len(execution.get("attempts", ())) for execution in executions) == 3


@pytest.mark.parametrize("old", [SINGLE, CLUSTER], ids=["single", "cluster"])
def test_units_are_kept_byte_for_byte_and_mean_what_they_meant(old: list[Row]) -> None:
    stored = {row.key.removeprefix(JOBS): row for row in old if row.key.startswith(JOBS)}
    texts = {name: text_of(msgspec.json.decode(row.value, type=records.UnitRecord)) for name, row in stored.items()}
    assert texts["latin.service"] == LATIN
    assert texts["masked.service"] == b""
    for name, text in {**started("there"), **scheduled(EPOCH)}.items():
        # What depends on the moment, or on the fixture, is left out of the comparison.
        if "TriggerISO8601" not in text and "TriggerAt" not in text and "there" not in text:
            assert texts[f"{name}.service"] == text.encode()
    for name, row in stored.items():
        record = msgspec.json.decode(row.value, type=records.UnitRecord)
        unit = compile_record(name, record)
        assert unit.revision == record.revision, "the same text has the same revision: what was placed is not stale"
    cursors = {
        row.key.removeprefix(f"{VAR}schedules/"): row.record for row in old if row.key.startswith(f"{VAR}schedules/")
    }
    for name, cursor in cursors.items():
        unit = compile_record(name, msgspec.json.decode(stored[name].value, type=records.UnitRecord))
        assert unit.fingerprint == cursor["fingerprint"], "the same triggers: the cursor is kept"
    dropped = msgspec.json.decode(stored["dropped.service"].value, type=records.UnitRecord)
    assert [Path(one.name).name for one in dropped.drop_ins] == ["10-greeting.conf"]


def test_each_shard_and_each_unit_belongs_to_whom_it_belonged() -> None:
    owners = {row.key.removeprefix(SHARD): row.value.decode() for row in CLUSTER if row.key.startswith(SHARD)}
    assert sorted(owners, key=int) == [str(number) for number in range(SHARDS)]
    assert sorted(owners.values()) == ["m1"] * 8 + ["m2"] * 8
    # `given` was given to a machine by m2 after m1's death, `crunch` and `reported` were left to m1: see the generator.
    assert owners[str(shard_of("given.service"))] == "m2"
    assert {owners[str(shard_of(f"{name}.service"))] for name in ("crunch", "reported")} == {"m1"}
