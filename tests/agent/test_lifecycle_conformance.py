"""Units that were run for real under systemd 252, run for real here."""

import asyncio
import json
import os
from pathlib import Path
from typing import Any

import pytest

from tests.agent.lifecycle_runner import Machine, same_trace
from xchronos.errors import UnitFileError
from xchronos.unitfile.directives import meaning

DIRECTORY = Path(os.environ.get("XCHRONOS_CONFORMANCE") or Path(__file__).parents[1] / "conformance")
CASES: list[dict[str, Any]] = json.loads((DIRECTORY / "lifecycle.json").read_text())

ACTIONS = ("start", "stop", "wait", "kill", "restart")


def _keys(case: dict[str, Any]) -> dict[str, list[str]]:
    found: dict[str, list[str]] = {}
    for text in (case["text"], *(text for name, text in case.get("files", {}).items() if name.endswith(".conf"))):
        for line in text.splitlines():
            name, equals, value = line.partition("=")
            if equals:
                found.setdefault(name.strip(), []).append(value.strip())
    return found


def rule(case: dict[str, Any]) -> str:
    """Why a case is not xchronos's: the rule of xchronos that wins over systemd's answer."""
    if not case.get("text"):
        return "no unit file: nothing is compiled"
    keys = _keys(case)
    kind = keys.get("Type", [""])[-1]
    if any(action.partition(":")[0] not in ACTIONS for action in case.get("actions", [])):
        return "an action that attempts do not have (an attempt is started and stopped)"
    if kind in ("forking", "notify", "notify-reload", "dbus"):
        return "every type ends when its main process does; readiness is not waited for"
    if kind == "oneshot" and "RuntimeMaxSec" in keys:
        return "RuntimeMaxSec bounds the main process of a oneshot, too"
    if any(key in keys for key in ("Requires", "Wants", "BindsTo", "Requisite", "OnFailure", "OnSuccess", "PartOf")):
        return "chains of units are the scheduler's, an attempt knows one unit"
    if case["final"].get("Result") == "start-limit-hit":
        return "attempts instead of start limits"
    if len([action for action in case.get("actions", []) if action == "start"]) > 1 and "StartLimitBurst" in keys:
        return "attempts instead of start limits"
    if case["final"].get("NRestarts", "0") != "0" and case["final"].get("Result") == "success":
        return "a fire time that succeeded is done, whatever Restart= says"
    inert = [key for key in keys if meaning("Service", key) == "container"]
    if inert:
        return f"a host process does without {', '.join(inert)}: they become settings of a container"
    if "pwd" in case["text"]:
        return "the working directory is the attempt's scratch directory unless the unit names one"
    return ""


def _ignored(unit: Any) -> str:
    """Keys of [Service] that xchronos accepts and ignores, and says so."""
    found = [p.key for p in unit.warnings if p.section in ("Service", "Unit") and "no meaning" in p.message]
    return ", ".join(key for key in found if key != "DefaultDependencies")


@pytest.mark.parametrize("case", CASES, ids=lambda case: case["id"])
async def test_as_systemd(case: dict[str, Any], tmp_path: Path) -> None:
    why = rule(case)
    if why:
        pytest.skip(why)
    final = case["final"]
    refused = final.get("LoadState") in ("bad-setting", "error")
    try:
        machine = Machine(case, tmp_path)
    except UnitFileError as error:
        if not refused:
            pytest.fail(f"{case['title']}: {error}")
        return
    assert not refused, f"{case['title']}: compiled, but systemd refuses it"
    if machine.unit.masked:
        assert final["LoadState"] == "masked"
        return
    ignored = _ignored(machine.unit)
    if ignored:
        pytest.skip(f"verify warns that it ignores {ignored}")
    codes: list[int] = []
    try:
        for action in case["actions"]:
            name, _, detail = action.partition(":")
            if name == "start":
                codes.append(await machine.start())
            elif name == "stop":
                await machine.stop()
            elif name == "restart":
                await machine.stop()
                codes.append(await machine.start())
            elif name == "wait":
                await asyncio.sleep(float(detail))
            else:
                await machine.kill(detail or "SIGTERM")
        ran = await machine.settle(active=final["ActiveState"] in ("active", "activating"))
        shown = (ran.trace, [(end.outcome, end.result, end.reason) for end in ran.ends])
        assert same_trace(case["trace"], ran.trace), shown
        assert codes[:1] == [case["start_rc"]], shown
        if ran.active:
            assert final["ActiveState"] == "active", shown
            return
        word = ran.ends[-1].result
        if final["ActiveState"] == "failed":
            assert word == {"core-dump": "signal"}.get(final["Result"], final["Result"]), shown
        else:
            # systemd unloads an inactive unit and forgets its Result.
            assert word in ("success", "exec-condition", "condition", "assert"), shown
    finally:
        await machine.close()
