"""`list-machines`, `machine cordon`, `machine uncordon`."""

from typing import TYPE_CHECKING

import click

from xchronos.cli.session import Session, for_each, options, pass_session

if TYPE_CHECKING:
    from xchronos.api.detail import MachineStatus


@click.command("list-machines")
@options(output=True)
@pass_session
def list_machines(session: Session) -> None:
    """List the machines that are alive, with what they offer."""
    machines = session.client.machines()
    if session.json:
        session.print_json(machines)
        return
    from xchronos.cli.tables import show

    titles = ("MACHINE", "HOST", "ADDRESS", "STATE", "PLACED", "EXECUTORS", "DOCKER", "METADATA")
    show(session, titles, map(_row, machines))


def _row(machine: "MachineStatus") -> tuple[str, ...]:
    slots = machine.capacity.slots
    return (
        machine.id,
        machine.hostname,
        machine.address,
        "cordoned" if machine.cordoned else "ready",
        f"{machine.placed}/{slots}" if slots else str(machine.placed),
        ",".join(machine.executors),
        machine.docker,
        ",".join(f"{key}={value}" for key, value in sorted(machine.metadata.items())),
    )


@click.group()
def machine() -> None:
    """Keep new work from machines, or let them have some again."""


@machine.command()
@click.argument("machines", metavar="MACHINE...", nargs=-1, required=True)
@options()
@pass_session
def cordon(session: Session, machines: tuple[str, ...]) -> None:
    """Keep new work from machines; what they have goes on."""
    for_each(machines, lambda name: session.print(f"{session.client.cordon(name).target}: cordoned"))


@machine.command()
@click.argument("machines", metavar="MACHINE...", nargs=-1, required=True)
@options()
@pass_session
def uncordon(session: Session, machines: tuple[str, ...]) -> None:
    """Let machines have work again."""
    for_each(machines, lambda name: session.print(f"{session.client.uncordon(name).target}: uncordoned"))
