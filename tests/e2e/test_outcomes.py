"""How attempts end: retries, failures of every kind, each with its reason in words and nothing left behind."""

from datetime import timedelta
from itertools import pairwise
from typing import Any

import pytest

from tests.e2e.house import House, eventually, moment

pytestmark = [pytest.mark.slow, pytest.mark.usefixtures("busybox_image")]


def container_unit(service: str, chronos: str = "", container: str = "") -> str:
    return f"""[Service]
{service}
[Container]
Image=xchronos/busybox
Network=none
{container}
[X-Chronos]
{chronos}
"""


def run(house: House, name: str, text: str, limit: float = 40) -> dict[str, Any]:
    """Submit a unit, start it by hand, and return its one execution when it has ended."""
    done = house.ctl("submit", "--name", name, "-", stdin=text.encode())
    assert done.returncode == 0, done.stderr
    house.text("start", name)
    return eventually(lambda: house.ended(name), limit)[0]


def test_three_attempts_a_second_apart_and_a_fresh_budget_each_time(house: House) -> None:
    house.start()
    house.drop(
        "stubborn.service",
        container_unit(
            "Type=oneshot\nExecStart=/bin/sh -c 'echo attempt $${XCHRONOS_ATTEMPT}; exit 1'",
            "TriggerRepeatInterval=12s\nTriggerRepeatCount=1\nMaxAttempts=3\nTimeBetweenAttempts=1s",
        ),
    )
    found = eventually(lambda: _as_many(house, "stubborn.service", 2))
    for execution in found:
        assert execution["outcome"] == "failed"
        attempts = execution["attempts"]
        assert [attempt["number"] for attempt in attempts] == [1, 2, 3]
        for earlier, later in pairwise(attempts):
            pause = moment(later["started_at"]) - moment(earlier["ended_at"])
            assert timedelta(seconds=1) <= pause < timedelta(seconds=2)
        for attempt in attempts:
            assert [step["exit_code"] for step in attempt["steps"]] == [1]
            key = moment(execution["fire_time"]).strftime("%Y%m%dT%H%M%S.%fZ")
            said = house.text("logs", f"stubborn.service/{key}/0", "--attempt", str(attempt["number"]))
            assert said.strip() == f"attempt {attempt['number']}"
    assert house.containers("stubborn.service") == []


def test_success_on_the_second_attempt_stops_there(house: House) -> None:
    house.start()
    text = container_unit(
        "Type=oneshot\nExecStart=/bin/sh -c 'test $${XCHRONOS_ATTEMPT} -ge 2'", "MaxAttempts=3\nTimeBetweenAttempts=1s"
    )
    execution = run(house, "second.service", text)
    assert execution["outcome"] == "succeeded"
    assert [attempt["outcome"] for attempt in execution["attempts"]] == ["failed", "succeeded"]


CASES = {
    "pre-fails": (
        "Type=oneshot\nExecStartPre=/bin/sh -c 'exit 4'\nExecStart=/bin/echo never\nExecStopPost=/bin/echo cleanup",
        "", "failed", "start-pre-0: exited with 4", ["start-pre-0", "stop-post-0"],
    ),
    "ignored": (
        "Type=oneshot\nExecStartPre=-/bin/sh -c 'exit 4'\nExecStart=/bin/true",
        "", "succeeded", "", ["start-pre-0", "start-0"],
    ),
    "missing-binary": ("Type=oneshot\nExecStart=/no/such/program", "", "failed", "/no/such/program", ["start-0"]),
    "oom": (
        "Type=oneshot\nMemoryMax=16M\nExecStart=/bin/sh -c 'x=0123456789; while true; do x=$$x$$x; done'",
        "", "failed", "out of memory", ["start-0"],
    ),
    "start-timeout": (
        "Type=oneshot\nTimeoutStartSec=1\nTimeoutStopSec=1\nExecStart=/bin/sleep 60",
        "", "timed_out", "TimeoutStartSec=1s expired", ["start-0"],
    ),
    "runtime-max": (
        "RuntimeMaxSec=1\nTimeoutStopSec=1\nExecStart=/bin/sleep 60", "", "timed_out", "RuntimeMaxSec=1s expired", ["start-0"],
    ),
    "ignores-term": (
        "RuntimeMaxSec=1\nTimeoutStopSec=1\nExecStart=/bin/sh -c 'trap : TERM; while true; do sleep 0.1; done'",
        "", "timed_out", "was killed", ["start-0"],
    ),
    "missing-image": (
        "Type=oneshot\nExecStart=/bin/true", "Image=no-such-registry.invalid/nothing:1", "failed", "no-such-registry.invalid", ["start-0"],
    ),
}  # fmt: skip


@pytest.mark.parametrize("name", CASES)
def test_every_end_has_its_outcome_and_its_reason_and_leaves_nothing(house: House, name: str) -> None:
    service, container, outcome, reason, steps = CASES[name]
    house.start()
    execution = run(house, f"{name}.service", container_unit(service, "", container), 90)
    assert execution["outcome"] == outcome
    assert reason in execution.get("reason", "")
    assert [step["name"] for step in execution["attempts"][0]["steps"]] == steps
    if name == "missing-binary":
        assert execution["attempts"][0]["steps"][0]["exit_code"] == 127
    assert reason in house.text("status", f"{name}.service")
    eventually(lambda: house.containers(f"{name}.service") == [])


def test_sigterm_gives_attempts_their_grace_and_records_everything(house: House) -> None:
    house.start()
    for name, length in (("quick", 2), ("long", 60)):
        text = container_unit(f"Type=oneshot\nTimeoutStopSec=2\nExecStart=/bin/sleep {length}")
        assert house.ctl("submit", "--name", f"{name}.service", "-", stdin=text.encode()).returncode == 0
        house.text("start", f"{name}.service")
    eventually(lambda: all(_running(house, f"{name}.service") for name in ("quick", "long")))
    house.environment["XCHRONOS_SHUTDOWN_GRACE"] = "4s"
    assert house.terminate() == 0
    assert house.containers("quick.service") == []
    assert house.containers("long.service") == []
    house.start()
    assert [e["outcome"] for e in house.executions("quick.service")] == ["succeeded"]
    # Nobody has cancelled the long one: it begins anew, and the attempt that was ended is not charged.
    (long,) = eventually(lambda: house.executions("long.service") if _running(house, "long.service") else None)
    (first,) = long["attempts"]
    # The scheduler has it leave the machine, or the agent, whoever comes first.
    assert first["outcome"] == "lost"
    assert first["reason"].endswith("xchronosd is shutting down")
    house.text("stop", "long.service")
    eventually(lambda: [e["outcome"] for e in house.ended("long.service")] == ["cancelled"])


def test_kill_minus_nine_in_the_middle_of_a_run_loses_nothing_and_starts_nothing_twice(house: House) -> None:
    house.start()
    text = container_unit(
        "Type=oneshot\nExecStart=/bin/sh -c 'for i in 1 2 3 4 5 6; do echo line $$i; sleep 1; done; exit 7'"
    )
    assert house.ctl("submit", "--name", "long.service", "-", stdin=text.encode()).returncode == 0
    house.text("start", "long.service")
    eventually(lambda: _running(house, "long.service"))
    eventually(lambda: house.containers("long.service"))
    before = house.containers("long.service")
    house.kill()
    assert house.containers("long.service") == before
    house.start()
    assert house.containers("long.service") == before
    execution = eventually(lambda: house.ended("long.service"))[0]
    (attempt,) = execution["attempts"]
    assert [step["exit_code"] for step in attempt["steps"]] == [7]
    key = moment(execution["fire_time"]).strftime("%Y%m%dT%H%M%S.%fZ")
    assert house.text("logs", f"long.service/{key}/0").splitlines() == [f"line {n}" for n in range(1, 7)]
    eventually(lambda: house.containers("long.service") == [])


def _as_many(house: House, unit: str, count: int) -> list[dict[str, Any]]:
    found = house.ended(unit)
    return found if len(found) == count else []


def _running(house: House, unit: str) -> bool:
    return any(execution["state"] == "running" for execution in house.executions(unit))
