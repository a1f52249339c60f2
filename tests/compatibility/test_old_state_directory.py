"""A state directory that the commit 89caaa6 left, opened by a daemon of today: settings, store, journals and output.

The daemon was killed, and its machine switched off, long ago. One process of a step has lived on, in the wrapper of
then. What each unit was in the middle of, and how it goes on:

| unit | was | goes on |
|---|---|---|
| adopted | running, its process lives | is found, ends well: succeeded; ExecStartPre is not repeated |
| finishing | running; its process has ended with 4 since | failed, with its exit code and its output |
| everywhere, kept, twice/0, forbid, queue, replace | running; their processes are gone | attempt 1 lost, attempt 2 runs |
| queue | two more in its queue | in their order, each when the one before has ended |
| twice/1 | waiting for a second machine | waits on |
| stopping | reported as cancelled, not settled | cancelled |
| crunch | reported as succeeded, not settled | succeeded; starts `load`, once |
| reported | reported as failed, not settled | attempt 2: succeeded |
| stubborn | in the pause before attempt 2 | attempt 2: succeeded |
| delayed | waited for its delay to end | succeeded |
| waits | waiting for zone=nowhere | waits on; runs when the machine gets that zone |
| simple, iso, bounded | some fire times over; policy: make up for all | each of the others once, at its own fire time |
| gap | each two seconds; policy: go on with the next | one record of what was missed; goes on on its grid |
| cron | each 15 seconds; policy: one fire for all | one record of what was missed, and one fire |
| paused | paused | nothing |
| past, future | over; in 2099 | nothing: the cursor is what it was |
| ttl | two minutes of life left at most | is removed |
| dropped | from the directory of units | the same, taken in no second time |
"""

import itertools
import json
import os
import signal
import subprocess
import sys
import time
from base64 import b64decode
from collections.abc import Iterator
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from tests.compatibility.old_data import FIXTURES, Row, readings, restore, restore_sqlite, rows
from tests.e2e.house import House, eventually, moment
from xchronos.executors.process.table import StepTable
from xchronos.model.records import Execution

pytestmark = pytest.mark.slow

OLD = {row.key: row for row in rows("single")}
ENDED = "/xchronos/var/executions/"
REMOVED = ("ttl.service/",)
SHORTENED = ("cron.service/",)
"""Its HistoryLimit lets only the newest stay."""

LOST = ("everywhere", "kept", "forbid", "queue", "replace")


def old(key: str) -> dict[str, Any]:
    return OLD[f"/xchronos/{key}"].record


def old_cursor(unit: str) -> dict[str, Any]:
    return old(f"var/schedules/{unit}.service")


class OldHouse(House):
    """A house whose daemon finds what another one left."""

    def __init__(self, root: Path) -> None:
        super().__init__(root, "--config", str(root / "xchronosd.toml"))
        # Told by the old settings file.
        del self.environment["XCHRONOS_STATE_DIRECTORY"], self.environment["XCHRONOS_MACHINE_ID"]
        restore(FIXTURES / "single", root)
        restore_sqlite("single", self.state / "xchronos.db", root)
        self.wrapper = self._let_live_on("adopted")
        self.made_up: dict[str, dict[str, Any]] = {}

    def _home(self, unit: str) -> Path | None:
        """Where the process executor of then kept what it knew of the step that a unit runs."""
        for path in self.state.glob("processes/*/start-0/record"):
            with suppress(FileNotFoundError):  # its attempt is over
                if json.loads(path.read_text())["unit"] == f"{unit}.service" and not (path.parent / "status").exists():
                    return path.parent
        return None

    def _has_begun(self, execution: str, attempt: int) -> bool:
        """Whether the program has said something, and so knows what to do when it is asked to end."""
        unit, fire, copy = execution.split("/")
        log = self.state / f"attempts/{unit}/{fire}-{copy}-{attempt}/start-0.log"
        return log.exists() and log.stat().st_size > 0

    def _program(self, unit: str) -> int:
        """The pid of what a unit's step runs, begun by the daemon of then or by that of now; 0: nothing yet."""
        home = self._home(unit)
        if home is not None:
            record = json.loads((home / "record").read_text())
            if (home / "claim").exists() and self._has_begun(record["execution"], record["attempt"]):
                wrapper = int((home / "claim").read_text().split()[0])
                return int(Path(f"/proc/{wrapper}/task/{wrapper}/children").read_text().split()[0])
        table = StepTable(str(self.state / "processes/table"))
        try:
            for _, entry in table.entries():
                of = entry.record
                if of.execution.startswith(f"{unit}.service/") and of.step == "start-0" and entry.ended is None:
                    return entry.program if self._has_begun(of.execution, of.attempt) else 0
        finally:
            table.close()
        return 0

    def _let_live_on(self, unit: str) -> "subprocess.Popen[bytes]":
        """The old wrapper of a unit's step, which has outlived its daemon."""
        (log,) = self.state.glob(f"attempts/{unit}.service/*/start-0.log")
        home = self._home(unit)
        command = [sys.executable, "-I", "-S", str(FIXTURES / "process_wrapper"), str(home)]
        with log.open("wb") as output:
            wrapper = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
        record = json.loads((home / "record").read_text())
        eventually(lambda: self._has_begun(record["execution"], record["attempt"]))
        return wrapper

    def ask_to_end(self, unit: str) -> None:
        """Send SIGTERM to the program that a unit's step runs, once it does."""
        os.kill(eventually(lambda: self._program(unit), 60), signal.SIGTERM)

    def of(self, unit: str) -> list[dict[str, Any]]:
        return self.executions(f"{unit}.service")

    def reach(self, unit: str, *wanted: str) -> list[dict[str, Any]]:
        """Wait until a unit's executions, the oldest first, have these states or outcomes."""
        end = time.monotonic() + 120
        while (found := [one.get("outcome", one["state"]) for one in self.of(unit)]) != [*wanted]:
            assert time.monotonic() < end, f"{unit} is {found}, expected {[*wanted]}"
            time.sleep(0.1)
        return self.of(unit)

    def cursor(self, unit: str) -> dict[str, Any]:
        return json.loads(msgspec.json.encode(self.client.unit(f"{unit}.service").schedule))

    def close(self) -> None:
        super().close()
        for cwd in Path("/proc").glob("[0-9]*/cwd"):
            with suppress(OSError):  # it has ended by itself
                if cwd.readlink().is_relative_to(self.state):
                    os.kill(int(cwd.parent.name), signal.SIGKILL)
        self.wrapper.wait(30)


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> Iterator[OldHouse]:
    """The daemon, started over the old state; what follows goes on in it, test after test."""
    house = OldHouse(tmp_path_factory.mktemp("old"))
    try:
        house.start()
        for unit in ("gap", "cron"):
            # Looked at immediately: of `cron` the history keeps three records only.
            house.made_up[unit] = eventually(lambda unit=unit: _new_miss(house, unit), 60)  # type: ignore[misc]
        yield house
    finally:
        house.close()
        print(house.log.read_text()[-6000:])


def _new_miss(house: OldHouse, unit: str) -> dict[str, Any] | None:
    """The record of what a unit has missed since it was left, once it is there."""
    found = [one for one in house.missed(f"{unit}.service") if f"{ENDED}{one['id']}" not in OLD]
    return found[-1] if found else None


def test_what_had_ended_stays_as_it_was(house: OldHouse) -> None:
    now = {one["id"]: one for one in house.executions()}
    kept = [row for row in OLD.values() if row.key.startswith(ENDED) and not _goes(row)]
    assert len(kept) > 20
    for row in kept:
        assert _execution(now[row.key.removeprefix(ENDED)]) == _execution(row.record)


def _execution(told: dict[str, Any]) -> Execution:
    return msgspec.convert(told, Execution)


def _goes(row: Row) -> bool:
    return row.key.removeprefix(ENDED).startswith((*REMOVED, *SHORTENED))


def test_what_had_been_printed_can_be_read(house: OldHouse) -> None:
    logs = readings("single")["logs"]
    assert sum(bool(text) for text in logs.values()) > 15
    for name, text in logs.items():
        if not name.startswith((*REMOVED, *SHORTENED)):
            identity, attempt = name.split()
            assert b"".join(house.client.logs(identity, attempt=int(attempt))).decode() == text, name


def test_each_unit_is_there_byte_for_byte(house: OldHouse) -> None:
    eventually(lambda: "ttl.service" not in [unit.name for unit in house.client.units()])
    told = {unit["name"]: unit for unit in readings("single")["units"]}
    units = {unit.name: unit for unit in house.client.units()}
    assert set(units) == set(told) - {"ttl.service"}
    assert {name for name, unit in units.items() if unit.state == "paused"} == {"paused.service"}
    for name in ("masked.service", "report@.service"):
        assert units[name].state == told[name]["state"]
    for name in ("latin", "dropped", "report@eu", "several"):
        record = old(f"etc/jobs/{name}.service")
        text = house.ctl("cat", f"{name}.service").stdout
        assert text == _text(record), name


def _text(record: dict[str, Any]) -> bytes:
    return b64decode(record["text_base64"]) if "text_base64" in record else record["text"].encode()


def test_the_directory_of_units_is_taken_in_no_second_time(house: OldHouse) -> None:
    record = house.client.unit("dropped.service").record
    assert record.submitted_at == moment(old("etc/jobs/dropped.service")["submitted_at"])
    assert record.source == f"directory:{house.units}"
    house.text("start", "dropped.service", "--wait")
    (run,) = house.of("dropped")
    assert run["outcome"] == "succeeded"
    assert house.text("logs", "dropped.service") == "hello\n"


def test_the_machine_is_who_it_was_and_as_it_was_wanted(house: OldHouse) -> None:
    (machine,) = house.client.machines()
    assert (machine.id, machine.instance) == ("m1", old("etc/executors/m1")["instance"])
    assert machine.metadata == {"zone": "a", "rack": "7"}
    assert machine.configured == {"zone": "a", "spare": "yes"}
    assert (machine.capacity.slots, machine.capacity.memory) == (40, 4 << 30)


def test_a_process_that_lives_is_found_and_not_started_again(house: OldHouse) -> None:
    house.ask_to_end("adopted")
    (adopted,) = house.reach("adopted", "succeeded")
    (attempt,) = adopted["attempts"]
    assert [step["name"] for step in attempt["steps"]] == ["start-pre-0", "start-0", "stop-post-0"]
    assert house.text("logs", "adopted.service").splitlines() == [
        "prepared", "it was prepared", "ended well", "after all",
    ]  # fmt: skip


def test_a_process_that_has_ended_meanwhile_has_its_exit_code_and_its_output(house: OldHouse) -> None:
    (finishing,) = house.reach("finishing", "failed")
    (attempt,) = finishing["attempts"]
    assert [step["exit_code"] for step in attempt["steps"]] == [4]
    assert house.text("logs", "finishing.service").splitlines() == ["began", "asked to end"]


def test_what_was_reported_is_settled(house: OldHouse) -> None:
    (stopping,) = house.reach("stopping", "cancelled")
    assert stopping["reason"] == "stopped while nobody scheduled"
    (crunch,) = house.reach("crunch", "succeeded")
    assert len(crunch["attempts"]) == 1
    (load,) = house.reach("load", "succeeded")
    assert load["trigger"] == "chain"
    (reported,) = house.reach("reported", "succeeded")
    assert [(attempt["number"], attempt["outcome"]) for attempt in reported["attempts"]] == [
        (1, "failed"), (2, "succeeded"),
    ]  # fmt: skip


def test_retries_and_delays_go_on_when_they_are_due(house: OldHouse) -> None:
    for unit, outcomes in (("stubborn", ["failed", "succeeded"]), ("delayed", ["succeeded"])):
        (one,) = house.reach(unit, "succeeded")
        assert [attempt["outcome"] for attempt in one["attempts"]] == outcomes
        due = old(f"var/pending/{unit}.service/{_fire(one)}/0")["due_at"]
        assert moment(one["attempts"][-1]["started_at"]) >= moment(due)


def _fire(execution: dict[str, Any]) -> str:
    return moment(execution["fire_time"]).strftime("%Y%m%dT%H%M%S.%fZ")


def test_what_ran_and_is_gone_is_lost_and_tried_again_once(house: OldHouse) -> None:
    for unit in LOST:
        one = eventually(
            lambda unit=unit: next((e for e in house.of(unit) if e["state"] == "running"), None)  # type: ignore[misc]
        )
        assert [(attempt["number"], attempt["outcome"]) for attempt in one["attempts"]] == [(1, "lost")], one
        assert one["current"]["number"] == 2
    first, second = house.of("twice")
    assert ([attempt["outcome"] for attempt in first["attempts"]], second["state"]) == (["lost"], "waiting")
    for outcomes in (["succeeded", "running", "queued"], ["succeeded", "succeeded", "running"], ["succeeded"] * 3):
        house.ask_to_end("queue")
        queue = house.reach("queue", *outcomes)
    for earlier, later in itertools.pairwise(queue):
        assert moment(earlier["ended_at"]) <= moment(later["attempts"][-1]["started_at"])
    house.ask_to_end("replace")
    house.reach("replace", "cancelled", "succeeded")
    for unit in ("everywhere", "kept"):
        (one,) = house.of(unit)
        assert one["state"] == "running"


def test_what_waits_waits_for_the_same(house: OldHouse) -> None:
    (waits,) = house.of("waits")
    assert waits["state"] == "waiting"
    assert "zone=nowhere" in waits["reason"]
    assert "zone=nowhere" in house.text("explain", "waits.service")
    house.text("machine", "set", "m1", "zone=nowhere")
    house.reach("waits", "succeeded")


def test_fire_times_of_the_past_follow_their_policy(house: OldHouse) -> None:
    for unit, every, count in (("simple", 5, 20), ("bounded", 6, 16)):
        found = eventually(lambda unit=unit, count=count: _ended(house, unit, count), 120)  # type: ignore[misc]
        anchor = moment(old_cursor(unit)["anchor"])
        assert {one["outcome"] for one in found} == {"succeeded"}
        assert [moment(one["fire_time"]) for one in found] == [
            anchor + timedelta(seconds=every * n) for n in range(count)
        ]
        assert house.cursor(unit)["finished"]
    # There are no more than its MaxRuns; what follows them is missed, as far as it is over MisfireLimit.
    assert len(house.missed("bounded.service")) <= 1
    found = house.reach("iso", *["succeeded"] * 12)
    fires = [moment(one["fire_time"]) for one in found]
    assert [fire - fires[0] for fire in fires] == [timedelta(seconds=10 * n) for n in range(12)]
    for unit in ("gap", "cron"):
        before, last = old_cursor(unit), house.made_up[unit]
        assert last["missed"]["first"] == before["triggers"][0]["next"]
        every = 2 if unit == "gap" else 15
        gap = moment(last["missed"]["last"]) - moment(last["missed"]["first"])
        assert gap == timedelta(seconds=every * (last["missed"]["count"] - 1))
        assert moment(last["missed"]["last"]) <= datetime.now(UTC)
    anchor = moment(old_cursor("gap")["anchor"])
    since = moment(house.made_up["gap"]["missed"]["last"])
    later = eventually(
        lambda: [fire for one in house.ended("gap.service") if (fire := moment(one["fire_time"])) > since]
    )
    assert {(fire - anchor) % timedelta(seconds=2) for fire in later} == {timedelta(0)}
    assert len(house.missed("gap.service")) == 2, "the one of before is still there"


def _ended(house: OldHouse, unit: str, count: int) -> list[dict[str, Any]]:
    found = house.ended(f"{unit}.service")
    return found if len(found) == count else []


def test_what_is_paused_over_or_far_away_stays_so(house: OldHouse) -> None:
    before = [_execution(row.record) for row in OLD.values() if row.key.startswith(f"{ENDED}paused.service/")]
    assert [_execution(one) for one in house.of("paused")] == before
    for unit in ("paused", "past", "future", "latin", "masked", "report@", "dropped"):
        cursor = house.cursor(unit)
        cursor.pop("rules", None)  # what no cursor of that time said is noted now
        assert cursor == old_cursor(unit), unit
    assert [one["outcome"] for one in house.of("past")] == ["succeeded"]
    assert house.of("future") == []


def test_a_second_start_changes_nothing(house: OldHouse) -> None:
    ended = {one["id"]: one for one in house.executions() if one["state"] == "ended"}
    house.text("pause", "gap.service", "cron.service")
    house.kill()
    house.start()
    now = {one["id"]: one for one in house.executions()}
    for identity, one in ended.items():
        if one["unit"] not in ("cron.service", "gap.service"):
            assert now[identity] == one
