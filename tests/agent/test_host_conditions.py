"""Condition*= about the machine: what holds on it, and what does not."""

import socket
from pathlib import Path

import msgspec
import pytest

from tests.agent.worlds import FACTS
from xchronos.agent.attempt import conditions
from xchronos.agent.attempt.conditions import unmet_conditions
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import Outcome


@pytest.fixture(autouse=True)
def machine(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.sched_getaffinity", lambda _: {0, 1, 2, 3})
    monkeypatch.setattr(conditions, "total_memory", lambda: 8 * 2**30)
    monkeypatch.setattr(
        conditions, "_text", lambda path: "ro quiet root=/dev/vda 'a b'" if path == "/proc/cmdline" else ""
    )


def holds(line: str) -> bool:
    unit = compile_unit("job.service", f"[Unit]\n{line}\n[Service]\nExecStart=/bin/true\n")
    assert not unit.warnings, unit.warnings
    end = unmet_conditions(unit, msgspec.structs.replace(FACTS, architecture="x86-64"))
    assert end is None or end.outcome is (Outcome.SKIPPED if line.startswith("Condition") else Outcome.FAILED)
    return end is None


@pytest.mark.parametrize(
    ("line", "expected"),
    [
        ("ConditionArchitecture=x86-64", True),
        ("ConditionArchitecture=native", True),
        ("ConditionArchitecture=arm64", False),
        ("ConditionArchitecture=!arm64", True),
        ("AssertArchitecture=arm64", False),
        ("ConditionCPUs=4", True),
        ("ConditionCPUs=5", False),
        ("ConditionCPUs=< 5", True),
        ("ConditionCPUs=<=3", False),
        ("ConditionCPUs=!=4", False),
        ("ConditionCPUs==4", True),
        ("ConditionCPUs=> 4", False),
        ("ConditionCPUs=many", False),
        ("ConditionCPUs=!many", False),
        ("ConditionMemory=8G", True),
        ("ConditionMemory=>8G", False),
        ("ConditionMemory=<=8192M", True),
        ("ConditionKernelCommandLine=quiet", True),
        ("ConditionKernelCommandLine=root", True),
        ("ConditionKernelCommandLine=root=/dev/vda", True),
        ("ConditionKernelCommandLine=root=/dev/vdb", False),
        ("ConditionKernelCommandLine=a b", True),
        ("ConditionKernelCommandLine=qui", False),
        ("ConditionKernelModuleLoaded=no_such_module_at_all", False),
        ("ConditionKernelModuleLoaded=!no_such_module_at_all", True),
        ("ConditionKernelModuleLoaded=!../x", False),
    ],
)
def test_it_holds(line: str, expected: bool) -> None:
    assert holds(line) is expected


def test_a_module_is_loaded_when_it_is_live_or_built_in(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.path.isdir", lambda path: path == "/sys/module/x")
    for state, expected in (("live\n", True), ("", True), ("coming\n", False), ("going\n", False)):
        monkeypatch.setattr(conditions, "_text", lambda path, state=state: state if "initstate" in path else "")
        assert holds("ConditionKernelModuleLoaded=x") is expected


def test_a_socket_is_one(tmp_path: Path) -> None:
    place = tmp_path / "s"
    assert not holds(f"ConditionPathIsSocket={place}")
    place.write_text("")
    assert not holds(f"ConditionPathIsSocket={place}")
    place.unlink()
    with socket.socket(socket.AF_UNIX) as made:
        made.bind(str(place))
        assert holds(f"ConditionPathIsSocket={place}")


@pytest.mark.parametrize(
    "key", ["ConditionVirtualization", "AssertVersion", "ConditionFraction", "ConditionMachineTag"]
)
def test_what_nobody_judges_is_told(key: str) -> None:
    unit = compile_unit("job.service", f"[Unit]\n{key}=x\n[Service]\nExecStart=/bin/true\n")
    (problem,) = unit.warnings
    assert "does not judge it: the unit runs as if it held" in problem.message
