"""The command tree: it finds the command, and ends the program with the exit code of what went wrong."""

import errno
from importlib import import_module
from typing import Any

import click

from xchronos import __version__
from xchronos.cli.context import CliContext, options
from xchronos.cli.failures import FAILED, INTERRUPTED, exit_code, report
from xchronos.errors import XchronosError

COMMANDS = {
    "calendar": ("calendar", "The fire times to come of a unit, a unit file or an expression."),
    "cat": ("units", "Print a unit's file, byte for byte."),
    "destroy": ("actions", "Remove units, with their history; what runs of them is stopped."),
    "explain": ("units", "Why is a unit (not) running?"),
    "list-executions": ("executions", "List executions, the newest first."),
    "list-machines": ("machines", "List the machines."),
    "list-units": ("units", "List the units."),
    "logs": ("executions", "Print what an execution printed."),
    "machine": ("machines", "Show, cordon, drain and describe machines."),
    "pause": ("actions", "Let nothing of these units fire until they are resumed."),
    "resume": ("actions", "Let paused units fire again."),
    "start": ("actions", "Run units once, now."),
    "status": ("status", "Show units, executions, or the daemon, in detail."),
    "stop": ("actions", "Stop executions, or what runs of units."),
    "submit": ("submit", "Submit unit files."),
    "verify": ("verify", "Check unit files, without a daemon."),
}
"""The commands: the module that has each, and its help, so that help is printed without importing the modules."""


class LazyGroup(click.Group):
    """Imports a command's module when the command is called."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002 - click's
        """The names of all commands."""
        return sorted(COMMANDS)

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:  # noqa: ARG002 - click's
        """A command, from its module, which is imported now; None when there is no such command."""
        if cmd_name not in COMMANDS:
            return None
        module = import_module(f"xchronos.cli.commands.{COMMANDS[cmd_name][0]}")
        command = getattr(module, cmd_name.replace("-", "_"))
        assert isinstance(command, click.Command)
        return command

    def resolve_command(
        self, ctx: click.Context, args: list[str]
    ) -> tuple[str | None, click.Command | None, list[str]]:
        """The command that a command line means. The error for an unknown one suggests the most similar name."""
        try:
            return super().resolve_command(ctx, args)
        except click.UsageError as error:
            from xchronos.unitfile.suggest import did_you_mean

            raise click.UsageError(error.message.rstrip(".") + did_you_mean(args[0], COMMANDS), ctx) from None

    def format_commands(self, ctx: click.Context, formatter: click.HelpFormatter) -> None:  # noqa: ARG002 - click's
        """List the commands without importing them."""
        with formatter.section("Commands"):
            formatter.write_dl([(name, text) for name, (_, text) in sorted(COMMANDS.items())])

    def invoke(self, ctx: click.Context) -> Any:
        """Run the command. An error becomes a line on stderr and an exit code."""
        try:
            return super().invoke(ctx)
        except XchronosError as error:
            report(error)
            ctx.exit(exit_code(error))
        except OSError as error:
            if error.errno == errno.EPIPE:
                raise  # the reader has gone: click ends the program without a message
            where = f"{error.filename}: " if error.filename else ""
            click.echo(f"xchronosctl: {where}{error.strerror or error}", err=True)
            ctx.exit(FAILED)
        except KeyboardInterrupt:
            ctx.exit(INTERRUPTED)


@click.group(cls=LazyGroup, context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100})
@click.version_option(__version__, prog_name="xchronosctl", message="%(prog)s %(version)s")
@options()
@click.pass_context
def cli(ctx: click.Context) -> None:
    """Control xchronos: batch jobs in Docker, written as systemd-style unit files.

    Exit codes: 0 ok, 1 failed or refused, 2 used wrongly, 3 no such unit, execution or machine, 4 no daemon answers.
    """
    ctx.ensure_object(CliContext)
