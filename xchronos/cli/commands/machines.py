"""The commands about machines: `list-machines`, and the group `machine` with all that people want of machines."""

import time
from collections.abc import Iterator
from typing import TYPE_CHECKING

import click

from xchronos.cli import lists
from xchronos.cli.context import ASK_AGAIN_SECONDS, CliContext, options, outlast, pass_session, request_each, show_each
from xchronos.cli.text import clean, styled

if TYPE_CHECKING:
    from xchronos.wire.details import MachineStatus

DEADLINE = "5min"
"""How long what runs may go on, as a person writes it, when `drain` is not told."""


@click.command("list-machines")
@options(output=True)
@pass_session
def list_machines(session: CliContext) -> None:
    """List the machines: those that are alive, and those that are down until they are forgotten."""
    found = session.client.list_machines()
    if session.json:
        session.print_json(found.machines)
        return
    from xchronos.cli.tables import show

    rows = lists.machines(session, found)
    show(session, lists.MACHINES, rows, spare=("EXECUTORS", "HOST", "METADATA"))


@click.group()
def machine() -> None:
    """Show machines, keep work from them, have them emptied, change their metadata."""


_machines = click.argument("machines", metavar="MACHINE...", nargs=-1, required=True)
_reason = click.option("--reason", default="", help="For the record.")


@machine.command("show")
@_machines
@options(output=True)
@pass_session
def show_machines(session: CliContext, machines: tuple[str, ...]) -> None:
    """Show machines in detail."""

    def find(name: str) -> tuple[object, Iterator[str]]:
        found = session.client.machine(name)
        return found, _details(session, found)

    show_each(session, machines, find)


def _details(session: CliContext, machine: "MachineStatus") -> Iterator[str]:
    from xchronos.cli.times import human_time, machine_time

    capacity, configured = machine.capacity, machine.configured
    state = styled(machine.state)
    if machine.state == "draining" and machine.drain_until is not None:
        until = machine.drain_until
        state += f" until {human_time(until, session.now) if session.terminal else machine_time(until)}"
    if machine.since is not None:
        state += f" since {human_time(machine.since, session.now) if session.terminal else machine_time(machine.since)}"
    docker = machine.docker or ("" if machine.state in ("gone", "down") else "not used")
    rows = [
        ("State", state + (f": {clean(machine.cordon_reason)}" if machine.cordon_reason else "")),
        ("Attempts", lists.attempts_of(machine) + (" of its slots" if capacity.slots else "")),
        ("Metadata", ", ".join(map(clean, lists.pairs(machine.metadata))) or "none"),
        ("Configured", ", ".join(map(clean, lists.pairs(configured))) or "none" if configured is not None else ""),
        ("Executors", ", ".join(machine.executors)),
        ("Docker", clean(docker)),
        ("Memory", f"{capacity.memory / (1 << 20):.0f} MiB" if capacity.memory else ""),
        ("CPUs", f"{capacity.cpus:g}" if capacity.cpus else ""),
        ("Host", clean(machine.hostname)),
        ("Address", clean(machine.address)),
        ("Version", clean(machine.version)),
        ("Zone rules", clean(machine.reads.rules)),
    ]
    yield machine.id
    yield from (f"{name + ':':>12} {value}" for name, value in rows if value)


@machine.command()
@_machines
@_reason
@options(output=True)
@pass_session
def cordon(session: CliContext, machines: tuple[str, ...], reason: str) -> None:
    """Keep new work from machines; what they have goes on."""
    request_each(session, machines, lambda name: session.client.cordon(name, reason=reason))


@machine.command()
@_machines
@options(output=True)
@pass_session
def uncordon(session: CliContext, machines: tuple[str, ...]) -> None:
    """Let machines have work again; ends a drain."""
    request_each(session, machines, session.client.uncordon)


@machine.command()
@_machines
@click.option(
    "--deadline", default=DEADLINE, metavar="LENGTH", help=f"How long what runs may go on ({DEADLINE}); 0: not at all."
)
@click.option("--wait", is_flag=True, help="Return when nothing is left on them.")
@_reason
@options(output=True)
@pass_session
def drain(session: CliContext, machines: tuple[str, ...], deadline: str, wait: bool, reason: str) -> None:
    """Have everything leave machines: nothing new comes, and what still runs at the deadline is stopped and moved.

    Units that are kept running, and what has not begun, move immediately.
    """
    from xchronos.errors import InvalidValue
    from xchronos.unitfile.timespan import parse_timespan

    try:
        length = parse_timespan(deadline)
    except InvalidValue as error:
        raise click.UsageError(f"--deadline: {error}") from error
    if length is None:
        raise click.UsageError("--deadline: expected a length of time; to keep new work away for ever, use cordon")
    seconds = length / 1_000_000
    draining = request_each(session, machines, lambda name: session.client.drain(name, seconds, reason=reason))
    for name in draining if wait else ():
        _until_empty(session, name)


def _until_empty(session: CliContext, name: str) -> None:
    from xchronos.errors import ApiError

    told = -1
    while True:
        found = outlast(session, name, lambda: session.client.machine(name))
        if found.drain_until is None:
            raise ApiError(f"{name}: its drain was ended by somebody else", 409)
        if found.placed == 0:
            session.print(f"{name}: drained", err=session.json)
            return
        if found.placed != told:
            session.print(f"{name}: {found.placed} left", err=True)
            told = found.placed
        time.sleep(ASK_AGAIN_SECONDS)


@machine.command("set")
@click.argument("name", metavar="MACHINE")
@click.argument("pairs", metavar="KEY=VALUE...", nargs=-1, required=True)
@options(output=True)
@pass_session
def set_metadata(session: CliContext, name: str, pairs: tuple[str, ...]) -> None:
    """Give a machine metadata, beside or instead of its configuration's. What no longer fits there moves."""
    values: dict[str, str] = {}
    for pair in pairs:
        key, equals, value = pair.partition("=")
        if not (key and equals and value):
            raise click.UsageError(f"{pair}: expected KEY=VALUE, like region=us-east-1")
        values[key] = value
    request_each(session, [name], lambda machine: session.client.set_metadata(machine, values))


@machine.command("unset")
@click.argument("name", metavar="MACHINE")
@click.argument("keys", metavar="KEY...", nargs=-1, required=True)
@options(output=True)
@pass_session
def unset_metadata(session: CliContext, name: str, keys: tuple[str, ...]) -> None:
    """Take metadata from a machine, its configuration's too. What no longer fits there moves."""
    request_each(session, [name], lambda machine: session.client.set_metadata(machine, {}, unset=keys))


@machine.command()
@_machines
@options(output=True)
@pass_session
def forget(session: CliContext, machines: tuple[str, ...]) -> None:
    """Forget machines that are gone for good, with what is wanted of them."""
    request_each(session, machines, session.client.forget)
