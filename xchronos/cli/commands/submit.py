"""The command `submit`: it sends unit files to the daemon."""

import getpass
import socket

import click
import msgspec

from xchronos.cli.context import CliContext, options, pass_session
from xchronos.cli.files import STDIN, UnitSource, read_sources, unit_for
from xchronos.cli.text import problem_line
from xchronos.errors import ApiError, Problem, UnitFileError
from xchronos.model.compile.bounds import check_size
from xchronos.wire.messages import SubmissionResult


@click.command()
@click.argument("paths", metavar="FILE|DIRECTORY|-...", nargs=-1, required=True)
@click.option("--name", default="", help="The unit's name, for standard input (-) or a file that is called otherwise.")
@options(output=True)
@pass_session
def submit(session: CliContext, paths: tuple[str, ...], name: str) -> None:
    """Submit unit files, with the drop-ins beside them; directories recursively.

    Every file is tried and every problem is printed; the exit code is 1 when one was refused.
    """
    if STDIN in paths and not name:
        raise click.UsageError("- (standard input) needs --name NAME.service")
    if name and len(paths) > 1:
        raise click.UsageError("--name is for one file, not for several")
    by = identity()
    done: list[SubmissionResult] = []
    refused = False
    for source in read_sources(paths, unit_for(name)):
        if isinstance(source, Problem):
            session.print(problem_line(source), err=True)
            refused = refused or source.severity == "error"
        elif source.suffix not in ("", ".service") and source.path not in paths:
            session.print(f"{source.path}: passed over: xchronos does not run {source.suffix} units", err=True)
        elif (submitted := _submit(session, source, by)) is not None:
            done.append(submitted)
        else:
            refused = True
    if session.json:
        session.print_json(done)
    if refused:
        click.get_current_context().exit(1)


def _submit(session: CliContext, source: UnitSource, by: str) -> SubmissionResult | None:
    """Submit one file; None when it is refused."""
    try:
        drop_ins = [(dropin.name, dropin.text.decode()) for dropin in source.drop_ins]
    except UnicodeDecodeError:
        session.print(f"{source.path}: its drop-ins are not valid UTF-8", err=True)
        return None
    try:
        # A body that is far too large is refused before it has arrived, and then nobody can read the reason.
        check_size([(source.path, source.text), *((dropin.path, dropin.text) for dropin in source.drop_ins)])
    except UnitFileError as error:
        _print_problems(session, source, error.problems)
        return None
    try:
        submitted = session.client.submit(source.name, source.text, drop_ins=drop_ins, path=source.path, by=by)
    except ApiError as error:
        if error.status in (0, 401, 403):
            raise
        problems = error.problems or (Problem(str(error), source.path),)
        _print_problems(session, source, problems)
        return None
    _print_problems(session, source, submitted.warnings)
    if not session.json:
        session.print(f"{submitted.unit}: {submitted.result} (revision {submitted.revision[:12]})")
    return submitted


def _print_problems(session: CliContext, source: UnitSource, problems: tuple[Problem, ...]) -> None:
    """Print problems under the paths that the person gave. The daemon knows a drop-in only by its name."""
    paths = {dropin.name: dropin.path for dropin in source.drop_ins}
    for problem in problems:
        file = paths.get(problem.file, problem.file)
        session.print(problem_line(msgspec.structs.replace(problem, file=file)), err=True)


def identity() -> str:
    """Who runs this command, as the daemon records it: `user@host`."""
    try:
        user = getpass.getuser()
    except (KeyError, OSError):
        user = "unknown"
    return f"{user}@{socket.gethostname()}"
