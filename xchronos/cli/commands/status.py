"""The command `status`: units, executions and the daemon in detail."""

from collections.abc import Iterator
from datetime import datetime
from typing import TYPE_CHECKING

import click

from xchronos.cli.context import CliContext, complete_units, execution_id, options, pass_session, show_each
from xchronos.cli.text import clean, styled
from xchronos.cli.times import human_time, length, machine_time
from xchronos.limits import MOST_RECENT, RECENT_EXECUTIONS

if TYPE_CHECKING:
    from xchronos.model.records import Attempt, Execution, StepResult
    from xchronos.wire.details import PlacementDetail, UnitDetail
    from xchronos.wire.messages import DaemonStatus, TriggerStatus

DOTS = {"scheduled": "green", "failed": "red", "refused": "red", "paused": "yellow", "masked": "red"}
"""The colour of the dot before a unit's name, by the unit's state."""

PROBLEM_LINES = 10
"""The most lines that are shown of one file's problems. A file that is no text has a problem in every line."""


@click.command()
@click.argument("targets", metavar="[UNIT|EXECUTION]...", nargs=-1, shell_complete=complete_units)
@click.option(
    "--recent",
    type=click.IntRange(0, MOST_RECENT),
    default=RECENT_EXECUTIONS,
    help=f"How many ended executions of a unit ({RECENT_EXECUTIONS}).",
)
@options(output=True)
@pass_session
def status(session: CliContext, targets: tuple[str, ...], recent: int) -> None:
    """Show units and executions in detail: triggers, what ran and how it ended, warnings; without any, the daemon."""
    printer = Printer(session)
    refused: list[str] = []
    if not targets:
        overview = session.client.status()
        if session.json:
            session.print_json(overview)
        else:
            for line in printer.daemon(overview):
                session.print(line)
        return

    def find(target: str) -> tuple[object, Iterator[str]]:
        name = execution_id(session, target)
        if "/" in name:
            execution = session.client.execution(name)
            return execution, printer.execution(execution, "")
        unit = session.client.unit(name, recent=recent)
        if unit.refused:
            refused.append(name)
        return unit, printer.unit(unit, shows_ended=bool(recent))

    show_each(session, targets, find)
    if refused:
        click.get_current_context().exit(1)


class Printer:
    """Makes lines of text of the records that the daemon answers with."""

    def __init__(self, session: CliContext) -> None:
        self._now = session.now
        self._terminal = session.terminal

    def _time(self, moment: datetime | None) -> str:
        return human_time(moment, self._now) if self._terminal else machine_time(moment)

    # -- units --------------------------------------------------------------------------------------------------------

    def unit(self, unit: "UnitDetail", *, shows_ended: bool = True) -> Iterator[str]:
        """The lines about a unit: its file, state, triggers, warnings and executions.

        Without `shows_ended` nobody has asked for those that have ended.
        """
        summary, record = unit.summary, unit.record
        dot = click.style("*", fg=DOTS.get(summary.state), bold=True)
        yield f"{dot} {summary.name}" + (f" - {clean(summary.description)}" if summary.description else "")
        if unit.documentation:
            yield _field("Docs", " ".join(clean(address) for address in unit.documentation))
        yield from self._refused(unit)
        if summary.state == "refused":
            return
        who = f" by {clean(record.submitted_by)}" if record.submitted_by else ""
        origin = clean(record.source) or "unknown"
        yield _field("Loaded", f"from {origin}{who}, {self._time(record.submitted_at)}")
        yield _field("Revision", record.revision[:12])
        if record.drop_ins:
            yield _field("Drop-ins", ", ".join(clean(dropin.name) for dropin in record.drop_ins))
        finished = f" ({clean(summary.finished)})" if summary.finished else ""
        yield _field("State", styled(summary.state) + finished)
        if summary.unread:
            yield _field("Unread", clean(summary.unread))
        for trigger in unit.triggers:
            yield from self._trigger(trigger, summary.state)
        if unit.schedule is not None and unit.schedule.expires_at is not None:
            yield _field("Expires", self._time(unit.schedule.expires_at))
        if unit.placing is not None:
            yield _field("Placement", _placing(unit.placing))
        for problem in unit.problems:
            yield _field("Refused" if problem.severity == "error" else "Warning", clean(str(problem)))
        for problem in unit.warnings:
            yield _field("Warning", clean(str(problem).replace("warning: ", "", 1)))
        if not unit.executions and shows_ended:
            yield _field("Executions", "none yet")
        for execution in unit.executions:
            yield ""
            yield from self.execution(execution, "  ")

    def _refused(self, unit: "UnitDetail") -> Iterator[str]:
        """The lines about files of the unit's name that are not taken in."""
        if unit.summary.state == "refused":
            yield _field("State", f"{styled('refused')}: its file is not taken in, so there is no such unit")
        for file in unit.refused:
            what = (
                ""
                if unit.summary.state == "refused"
                else "a newer file is refused; what follows is the version in force: "
            )
            lines = file.problems or ("it is not taken in",)
            yield _field("Refused", f"{what}{clean(file.path)} on {file.machine}, since {self._time(file.since)}")
            yield from (_field("", clean(line)) for line in lines[:PROBLEM_LINES])
            if len(lines) > PROBLEM_LINES:
                yield _field("", f"and {len(lines) - PROBLEM_LINES} more, which xchronosctl verify tells")

    def _trigger(self, trigger: "TriggerStatus", state: str) -> Iterator[str]:
        yield _field("Trigger", f"{trigger.key}={clean(trigger.text)}")
        if trigger.next is not None:
            parts = [f"next {self._time(trigger.next)}"]
        else:
            parts = ["nothing fires until it is resumed" if state == "paused" else "no further fire time"]
        if trigger.last is not None:
            parts.append(f"last {self._time(trigger.last)}")
        parts.append(f"fired {trigger.fired} times" if trigger.fired != 1 else "fired once")
        if trigger.remaining is not None:
            parts.append(f"{trigger.remaining} remaining")
        yield _field("", "; ".join(parts))

    # -- executions ---------------------------------------------------------------------------------------------------

    def execution(self, execution: "Execution", indent: str) -> Iterator[str]:
        """The lines about an execution, with each attempt and each step; `indent` begins every line."""
        word = execution.outcome.value if execution.outcome is not None else execution.state
        when = self._time(execution.ended_at) if execution.ended_at is not None else ""
        yield f"{indent}{execution.id}: {styled(word)} ({execution.trigger})" + (f", {when}" if when else "")
        if execution.reason:
            yield f"{indent}  {clean(execution.reason)}"
        if execution.stop_requested:
            yield f"{indent}  stop requested: {clean(execution.stop_requested)}"
        missed = execution.missed
        if missed is not None:
            until = f" to {self._time(missed.last)}" if missed.count > 1 else ""
            yield f"{indent}  stands for {missed.count} from {self._time(missed.first)}{until} ({missed.policy})"
        if execution.state in ("delayed", "waiting") and execution.due_at is not None:
            yield f"{indent}  not before {self._time(execution.due_at)}"
        attempts = execution.attempts if execution.current is None else (*execution.attempts, execution.current)
        for attempt in attempts:
            yield from self._attempt(attempt, indent + "  ")

    def _attempt(self, attempt: "Attempt", indent: str) -> Iterator[str]:
        word = attempt.outcome.value if attempt.outcome is not None else "running" if attempt.started_at else "placed"
        took = self._took(attempt.started_at, attempt.ended_at)
        reason = f": {clean(attempt.reason)}" if attempt.reason else ""
        if attempt.leave and attempt.outcome is None:
            reason = f", has to leave: {clean(attempt.leave)}"
        yield f"{indent}attempt {attempt.number} on {attempt.machine}: {styled(word)}{took}{reason}"
        for step in attempt.steps:
            took = self._took(step.started_at, step.ended_at)
            yield f"{indent}  {step.name}: {_step(step)}{took}: {clean(step.command)}"

    def _took(self, started: datetime | None, ended: datetime | None) -> str:
        return f" ({length((ended or self._now) - started)})" if started is not None else ""

    # -- the daemon ---------------------------------------------------------------------------------------------------

    def daemon(self, overview: "DaemonStatus") -> Iterator[str]:
        """The lines about a daemon: its cluster, its work and its faults."""
        healthy = not (overview.faults or overview.intake or overview.unowned)
        dot = click.style("*", fg="green" if healthy else "red", bold=True)
        yield f"{dot} xchronosd {overview.version} on machine {overview.machine}"
        yield _field("Store", overview.store + (f", namespace {overview.namespace}" if overview.namespace else ""))
        yield _field("Machines", str(overview.machines))
        yield from self._schedulers(overview)
        yield _field("Units", str(overview.units))
        counts = ", ".join(f"{count} {state}" for state, count in overview.executions.items())
        yield _field("Executions", counts or "none active")
        for fault in overview.faults:
            yield _field("Fault", clean(fault))
        for note in overview.notes:
            yield _field("Note", clean(note))
        stalls = overview.stalls
        if stalls is not None and stalls.count:
            longest = f"the longest for {stalls.longest_seconds:.2f} s"
            yield _field("Stalls", f"its event loop stood {stalls.count} times, {longest}")
            if stalls.last_at is not None:
                last = f"the latest until {self._time(stalls.last_at)}, for {stalls.last_seconds:.2f} s, in"
                yield _field("", f"{last} {clean(stalls.last_culprit)}")
        if overview.unowned:
            numbers = ", ".join(map(str, overview.unowned))
            yield _field("Fault", f"no scheduler owns the shards {numbers}: their units wait")
        for problem in overview.intake:
            yield _field("Intake", f"{clean(problem.path)} is not taken in since {self._time(problem.since)}:")
            lines = problem.message.splitlines()
            for line in lines[:PROBLEM_LINES]:
                yield _field("", clean(line))
            if len(lines) > PROBLEM_LINES:
                yield _field("", f"and {len(lines) - PROBLEM_LINES} more, which xchronosctl verify tells")
            if problem.last_good:
                yield _field("", f"revision {problem.last_good[:12]} stays in force")

    def _schedulers(self, overview: "DaemonStatus") -> Iterator[str]:
        """A line for each living scheduler: how many shards it owns, and whether it leads."""
        for index, share in enumerate(overview.schedulers):
            shards = f"{len(share.shards)} shard{'' if len(share.shards) == 1 else 's'}"
            name = "" if index else f"Scheduler{'' if len(overview.schedulers) == 1 else 's'}"
            rules = f", zone rules {share.rules}" if share.rules else ""
            yield _field(name, f"{share.machine}: {shards}" + (", leads" if share.leads else "") + rules)


def _field(name: str, value: str) -> str:
    return f"{name + ':' if name else '':>12} {value}"


def _placing(placing: "PlacementDetail") -> str:
    if placing.every_machine:
        where = "every machine"
    else:
        where = "one machine" if placing.availability == 1 else f"{placing.availability} machines"
    conditions = f" with {', '.join(map(clean, placing.requirements))}" if placing.requirements else ""
    return f"{placing.executor} on {where}{conditions}; load balancing: {placing.load_balancing}"


def _step(step: "StepResult") -> str:
    if step.signal:
        how = f"killed by {step.signal}"
    elif step.exit_code is not None:
        how = f"exit code {step.exit_code}"
    else:
        how = step.outcome
    ignored = ", ignored" if step.outcome == "ignored" else ""
    killed = ", out of memory" if step.oom_killed else ""
    words = step.reason and step.reason not in (f"exited with {step.exit_code}", how, killed.removeprefix(", "))
    return f"{how}{ignored}{killed}" + (f" ({clean(step.reason)})" if words else "")
