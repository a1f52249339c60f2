"""What a step's end means: systemd's notion of a clean exit, its words for results, and the environment that tells."""

from datetime import datetime

import msgspec

from xchronos.executors.contract import StepExit
from xchronos.model.records import StepOutcome, StepResult
from xchronos.model.unit import Service, Step

CLEAN_SIGNALS = frozenset(("SIGHUP", "SIGINT", "SIGTERM", "SIGPIPE"))
"""The signals that end a main process cleanly, by systemd's rules; not that of a oneshot."""

EXIT_CANNOT_RUN = 203
"""systemd's exit code for a program that could not be run (EXIT_EXEC)."""

EXIT_ENGINE_REFUSED = 125
"""The docker client's exit code when the engine refused to start anything."""


class ExitStatus(msgspec.Struct, frozen=True, gc=False):
    """What a step's end means.

    Attributes:
        outcome: For the step's record.
        result: systemd's word for it; `success` also where the line's `-` says so.
        words: Why it is no plain success, for people.
    """

    outcome: StepOutcome
    result: str
    words: str = ""


def judge(service: Service, step: Step, exit_: StepExit) -> ExitStatus:
    """What a step's end means by itself, whoever brought it about."""
    if exit_.lost:
        return ExitStatus("lost", "lost", exit_.reason or "what became of it cannot be known")
    if _clean(service, step, exit_):
        return ExitStatus("succeeded", "success")
    words = exit_.reason or _words(exit_)
    if exit_.code is None and not exit_.signal:
        # The command was not even tried (a missing EnvironmentFile): `-` excuses failures of the command only.
        return ExitStatus("failed", "resources", words)
    if step.line.ignore_failure:
        return ExitStatus("ignored", "success", words)
    if exit_.oom_killed:
        return ExitStatus("failed", "oom-kill", words)
    return ExitStatus("failed", "signal" if exit_.signal else "exit-code", words)


def judge_recorded(service: Service, step: Step, result: StepResult) -> ExitStatus:
    """What a recorded end means. An end that the attempt itself brought about is judged by its status, too."""
    if result.outcome == "lost":
        return ExitStatus("lost", "lost", result.reason)
    if result.exit_code is None and not result.signal and result.outcome in ("cancelled", "timed_out"):
        return ExitStatus(result.outcome, "success", result.reason)
    exit_ = StepExit(result.exit_code, result.signal, result.oom_killed, result.reason)
    return judge(service, step, exit_)


def unmet(result: StepResult) -> bool:
    """Whether an ExecCondition that did not succeed says "not now" (systemd: 1 to 254), and not that it failed."""
    code = result.exit_code
    if code is None or result.outcome != "failed":
        return False
    # A condition in a container that the engine refused to start has said nothing.
    return 1 <= code <= 254 and not (code == EXIT_ENGINE_REFUSED and result.started_at is None)


def recorded(step: Step, exit_: StepExit, outcome: StepOutcome, reason: str, now: datetime) -> StepResult:
    """The record of a step's end. `now` is taken for the time where the executor does not know it."""
    return StepResult(
        name=step.name,
        command=step.text,
        outcome=outcome,
        started_at=exit_.started_at,
        ended_at=exit_.ended_at or now,
        exit_code=exit_.code,
        signal=exit_.signal,
        oom_killed=exit_.oom_killed,
        reason=reason,
        container=exit_.container,
    )


def exit_environment(result: str, main: StepResult | None) -> dict[str, str]:
    """What ExecStop and ExecStopPost are told: $SERVICE_RESULT, and $EXIT_CODE and $EXIT_STATUS of the main process."""
    env = {"SERVICE_RESULT": result, "EXIT_CODE": "", "EXIT_STATUS": ""}
    if main is not None:
        if main.signal:
            env["EXIT_CODE"], env["EXIT_STATUS"] = "killed", main.signal.removeprefix("SIG")
        elif main.exit_code is not None:
            # A program that is not there, and that its `-` excuses, counts as a success.
            passed_over = main.outcome == "ignored" and main.exit_code == EXIT_CANNOT_RUN and main.started_at is None
            env["EXIT_CODE"], env["EXIT_STATUS"] = "exited", "0" if passed_over else str(main.exit_code)
    return env


def _clean(service: Service, step: Step, exit_: StepExit) -> bool:
    if exit_.signal:
        # Only a process that runs until somebody ends it may end by a signal: no oneshot, no command but the main one.
        daemon = service.type != "oneshot" and step.phase == "start"
        return exit_.signal in service.success.signals or (daemon and exit_.signal in CLEAN_SIGNALS)
    return exit_.code == 0 or exit_.code in service.success.codes


def _words(exit_: StepExit) -> str:
    if exit_.oom_killed:
        return "out of memory: the kernel killed it at its memory limit"
    if exit_.signal:
        return f"killed by {exit_.signal}"
    if exit_.code is None:
        return "it did not run"
    return f"exited with {exit_.code}"
