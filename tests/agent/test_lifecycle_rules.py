"""The rules of an attempt that the measured samples do not show, on real processes."""

from functools import partial
from pathlib import Path
from typing import Any

import pytest

from tests.agent.lifecycle_runner import Machine
from xchronos.model.policies import Outcome
from xchronos.testing.executors import eventually

SP = "ExecStopPost=/bin/sh -c 'echo sp r=$$SERVICE_RESULT c=$$EXIT_CODE s=$$EXIT_STATUS >>@TRACE@'"


def say(word: str, then: str = "") -> str:
    return f"/bin/sh -c 'echo {word} >>@TRACE@{'; ' + then if then else ''}'"


CASES: dict[str, tuple[str, str, list[str], str]] = {
    # title: service lines, actions, trace, result
    "a timeout is no failure that - excuses": (
        f"Type=oneshot\nTimeoutStartSec=200ms\nExecStartPre=-{say('pre', 'exec sleep 9')}\nExecStart={say('start')}\n{SP}",
        "start", ["pre", "sp r=timeout c= s="], "timeout",
    ),
    "TimeoutStartSec is per command of a oneshot": (
        f"Type=oneshot\nTimeoutStartSec=3s\nExecStart={say('a', 'sleep 1.7')}\nExecStart={say('b', 'sleep 1.7')}\n{SP}",
        "start", ["a", "b", "sp r=success c=exited s=0"], "success",
    ),
    "a stop that is not obeyed is a timeout": (
        f"TimeoutStopSec=300ms\nExecStart=/bin/sh -c 'trap \"\" TERM; echo start >>@TRACE@; while :; do sleep 0.05; done'\n{SP}",
        "start seen:start stop", ["start", "sp r=timeout c=killed s=KILL"], "timeout",
    ),
    "SendSIGKILL=no goes on without the end of the process": (
        ("SendSIGKILL=no\nTimeoutStopSec=200ms\n"
        f"ExecStart=/bin/sh -c 'trap \"\" TERM; echo start >>@TRACE@; while :; do sleep 0.05; done'\n{SP}"),
        "start seen:start stop", ["start", "sp r=timeout c= s="], "timeout",
    ),
    "KillMode=none waits for nobody": (
        f"KillMode=none\nExecStart={say('start', 'exec sleep 1')}\n{SP}",
        "start seen:start stop", ["start", "sp r=success c= s="], "success",
    ),
    "an unclean stop signal is a result": (
        f"KillSignal=SIGUSR1\nExecStart={say('start', 'exec sleep 9')}\n{SP}",
        "start seen:start stop", ["start", "sp r=signal c=killed s=USR1"], "signal",
    ),
    "TERM is clean for simple": (
        f"ExecStart={say('start', 'kill -TERM $$$$; sleep 9')}\nExecStop={say('stop')}\n{SP}",
        "start", ["start", "stop", "sp r=success c=killed s=TERM"], "success",
    ),
    "TERM is not clean for oneshot": (
        f"Type=oneshot\nExecStart={say('start', 'kill -TERM $$$$; sleep 9')}\nExecStop={say('stop')}\n{SP}",
        "start", ["start", "sp r=signal c=killed s=TERM"], "signal",
    ),
    "TERM is not clean for a command beside the main process": (
        f"ExecStartPre={say('pre', 'kill -TERM $$$$; sleep 9')}\nExecStart={say('start')}\n{SP}",
        "start", ["pre", "sp r=signal c= s="], "signal",
    ),
    "SuccessExitStatus may make TERM clean for any command": (
        f"SuccessExitStatus=SIGTERM\nExecStartPre={say('pre', 'kill -TERM $$$$; sleep 9')}\nExecStart={say('start')}",
        "start", ["pre", "start"], "success",
    ),
    "SIGPIPE is ignored": (
        f"Type=oneshot\nExecStart={say('start', 'kill -PIPE $$$$; echo alive >>@TRACE@')}",
        "start", ["start", "alive"], "success",
    ),
    "simple: a missing binary starts, then fails": (
        f"ExecStart=/nonexistent/x\nExecStartPost={say('post')}\nExecStop={say('stop')}\n{SP}",
        "start", ["post", "sp r=exit-code c=exited s=203"], "exit-code",
    ),
    "exec: a missing binary has not started": (
        f"Type=exec\nExecStart=/nonexistent/x\nExecStartPost={say('post')}\nExecStop={say('stop')}\n{SP}",
        "start", ["sp r=exit-code c=exited s=203"], "exit-code",
    ),
    "exec: a missing binary with - is over before anything comes behind its start": (
        f"Type=exec\nExecStart=-/nonexistent/x\nExecStartPost={say('post')}\nExecStop={say('stop')}\n{SP}",
        "start", ["stop", "sp r=success c=exited s=0"], "success",
    ),
    "oneshot: a missing binary with - is passed over": (
        f"Type=oneshot\nExecStart=-/nonexistent/x\nExecStartPost={say('post')}\n{SP}",
        "start", ["post", "sp r=success c=exited s=0"], "success",
    ),
    "SuccessExitStatus counts for every command": (
        f"Type=oneshot\nSuccessExitStatus=7\nExecStartPre={say('pre', 'exit 7')}\nExecStart={say('start', 'exit 7')}\n{SP}",
        "start", ["pre", "start", "sp r=success c=exited s=7"], "success",
    ),
    "a condition that SuccessExitStatus lists holds": (
        f"Type=oneshot\nSuccessExitStatus=3\nExecCondition={say('cond', 'exit 3')}\nExecStart={say('start')}",
        "start", ["cond", "start"], "success",
    ),
    "a missing condition program says no": (
        f"Type=oneshot\nExecCondition=/nonexistent/x\nExecStart={say('start')}\n{SP}",
        "start", ["sp r=exec-condition c= s="], "exec-condition",
    ),
    "a condition killed by a signal fails": (
        f"Type=oneshot\nExecCondition={say('cond', 'kill -KILL $$$$')}\nExecStart={say('start')}\n{SP}",
        "start", ["cond", "sp r=signal c= s="], "signal",
    ),
    "a failing ExecStartPost ends the main process": (
        f"ExecStart={say('start', 'exec sleep 9')}\nExecStartPost={say('post', 'exit 4')}\nExecStop={say('stop')}\n{SP}",
        "start", ["start", "post", "sp r=exit-code c=killed s=TERM"], "exit-code",
    ),
    "a failing ExecStop skips the later ones": (
        f"ExecStart={say('start', 'exec sleep 9')}\nExecStop={say('s1', 'exit 2')}\nExecStop={say('s2')}\n{SP}",
        "start seen:start stop", ["start", "s1", "sp r=exit-code c=killed s=TERM"], "exit-code",
    ),
    "ExecStop knows the main process": (
        f"ExecStart={say('start', 'exec sleep 9')}\nExecStop=/bin/sh -c 'kill -KILL $$MAINPID'\n{SP}",
        "start seen:start stop", ["start", "sp r=signal c=killed s=KILL"], "signal",
    ),
    "RuntimeMaxSec runs ExecStop": (
        f"RuntimeMaxSec=200ms\nExecStart={say('start', 'exec sleep 9')}\nExecStop={say('stop')}\n{SP}",
        "start", ["start", "stop", "sp r=timeout c=killed s=TERM"], "timeout",
    ),
    "no user: the error hits every command": (
        f"Type=oneshot\nUser=nobody-of-that-name\nExecStartPre={say('pre')}\nExecStart={say('start')}\n{SP}",
        "start", [], "exit-code",
    ),
    "no directory: the error hits every command": (
        f"Type=oneshot\nWorkingDirectory=/nonexistent\nExecStart={say('start')}\n{SP}",
        "start", [], "exit-code",
    ),
    "an EnvironmentFile may be written by ExecStartPre": (
        ("Type=oneshot\nEnvironmentFile=-@DIR@/env\nExecStartPre=/bin/sh -c 'echo A=1 >@DIR@/env'\n"
        "ExecStart=/bin/sh -c 'echo A=$$A >>@TRACE@'"),
        "start", ["A=1"], "success",
    ),
    "UnsetEnvironment takes away a default": (
        "Type=oneshot\nUnsetEnvironment=LANG\nExecStart=/bin/sh -c 'echo \"LANG=$$LANG\" >>@TRACE@'",
        "start", ["LANG="], "success",
    ),
    "User= tells who that is": (
        "Type=oneshot\nUser=root\nExecStart=/bin/sh -c 'echo $$USER $$LOGNAME >>@TRACE@'",
        "start", ["root root"], "success",
    ),
    "control-group: children are asked to end": (
        ("ExecStart=/bin/sh -c '(trap \"echo child >>@TRACE@; exit\" TERM; while :; do sleep 0.02; done) & sleep 0.2; "
        f"echo main >>@TRACE@'\n{SP}"),
        "start", ["main", "child", "sp r=success c=exited s=0"], "success",
    ),
    "mixed: children are killed": (
        ("KillMode=mixed\nExecStart=/bin/sh -c '(trap \"echo child >>@TRACE@; exit\" TERM; while :; do sleep 0.02; done) & "
        f"sleep 0.1; echo main >>@TRACE@'\n{SP}"),
        "start", ["main", "sp r=success c=exited s=0"], "success",
    ),
    "control-group: children that stay are killed": (
        ("TimeoutStopSec=200ms\nExecStart=/bin/sh -c '(trap \"\" TERM; while :; do sleep 0.02; done) & sleep 0.1; "
        f"echo main >>@TRACE@'\n{SP}"),
        "start", ["main", "sp r=timeout c=exited s=0"], "timeout",
    ),
    "a child of ExecStartPre lives on beside ExecStart": (
        ("Type=oneshot\nExecStartPre=/bin/sh -c 'sleep 9 & echo $$! >@DIR@/pid'\n"
        "ExecStart=/bin/sh -c 'kill -0 $$(cat @DIR@/pid) && echo alive >>@TRACE@'"),
        "start", ["alive"], "success",
    ),
    "RemainAfterExit: ExecStop comes with the stop": (
        f"RemainAfterExit=yes\nExecStart={say('start')}\nExecStop={say('stop')}\n{SP}",
        "start seen:start stop", ["start", "stop", "sp r=success c=exited s=0"], "success",
    ),
    "RemainAfterExit does not keep a failure": (
        f"RemainAfterExit=yes\nExecStart={say('start', 'sleep 0.1; exit 1')}\nExecStop={say('stop')}\n{SP}",
        "start", ["start", "sp r=exit-code c=exited s=1"], "exit-code",
    ),
    "a stop during ExecStartPre skips ExecStop": (
        f"ExecStartPre={say('pre', 'exec sleep 9')}\nExecStart={say('start')}\nExecStop={say('stop')}\n{SP}",
        "begin seen:pre stop", ["pre", "sp r=signal c= s="], "signal",
    ),
    "a killed main process fails": (
        f"ExecStart={say('start', 'exec sleep 9')}\nExecStop={say('stop')}\n{SP}",
        "start seen:start kill:SIGKILL", ["start", "sp r=signal c=killed s=KILL"], "signal",
    ),
}  # fmt: skip


def said(machine: Machine, word: str) -> bool:
    return word in machine.trace.read_text().splitlines()


async def run(where: Path, unit: str, actions: str) -> tuple[Machine, Any]:
    machine = Machine({"unit": "job.service", "text": unit}, where)
    for action in actions.split():
        name, _, detail = action.partition(":")
        if name == "seen":
            await eventually(partial(said, machine, detail), 60)
        elif name == "begin":
            machine.begin()
        elif name == "kill":
            await machine.kill(detail)
        else:
            await (machine.start() if name == "start" else machine.stop())
    return machine, await machine.settle(active=False)


@pytest.mark.parametrize("title", CASES)
async def test_rule(title: str, tmp_path: Path) -> None:
    service, actions, trace, result = CASES[title]
    machine, ran = await run(tmp_path, f"[Service]\n{service}\n", actions)
    try:
        assert (ran.trace, ran.ends[-1].result) == (trace, result), ran.ends[-1]
    finally:
        await machine.close()


CONDITIONS = {
    "ConditionPathExists=/nonexistent": "condition",
    "ConditionPathExists=!/nonexistent": "success",
    "ConditionPathExists=/": "success",
    "ConditionPathExists=|/nonexistent\nConditionPathExists=|/": "success",
    "ConditionPathExists=|/nonexistent\nConditionPathExists=|!/": "condition",
    "ConditionPathExists=/nonexistent\nConditionPathExists=": "success",
    "ConditionPathExists=/nonexistent\nAssertPathExists=": "condition",
    "ConditionPathExistsGlob=/et*": "success",
    "ConditionPathIsDirectory=/etc/passwd": "condition",
    "ConditionPathIsSymbolicLink=/etc": "condition",
    "ConditionPathIsMountPoint=/": "success",
    "ConditionPathIsReadWrite=/nonexistent": "condition",
    "ConditionDirectoryNotEmpty=/etc": "success",
    "ConditionDirectoryNotEmpty=/etc/passwd": "condition",
    "ConditionFileNotEmpty=/etc/passwd": "success",
    "ConditionFileNotEmpty=/dev/null": "condition",
    "ConditionFileIsExecutable=/bin/sh": "success",
    "ConditionFileIsExecutable=/etc/passwd": "condition",
    "ConditionHost=no-such-host": "condition",
    "ConditionHost=*": "success",
    "AssertPathExists=/nonexistent": "assert",
    "AssertPathExists=/nonexistent\nConditionPathExists=/nonexistent": "condition",
    "ConditionPathExists=relative": "success",
}


@pytest.mark.parametrize("lines", CONDITIONS)
async def test_conditions(lines: str, tmp_path: Path) -> None:
    machine, ran = await run(tmp_path, f"[Unit]\n{lines}\n[Service]\nType=oneshot\nExecStart={say('start')}\n", "start")
    end = ran.ends[-1]
    assert end.result == CONDITIONS[lines]
    assert ran.trace == (["start"] if end.result == "success" else [])
    if end.result != "success":
        assert end.outcome is (Outcome.SKIPPED if end.result == "condition" else Outcome.FAILED)
        assert "PathExists" in end.reason or lines.partition("=")[0] in end.reason
    await machine.close()
