"""The command `verify`: it says what is wrong with unit files, and needs no daemon for it."""

import click
import msgspec

from xchronos.cli.context import CliContext, options, pass_session
from xchronos.cli.files import STDIN, UnitSource, read_sources, unit_for
from xchronos.cli.text import problem_line
from xchronos.errors import ApiError, Problem, UnitFileError
from xchronos.unitfile.directives import NEWEST, OLDEST

USUAL_STORE = "sqlite"
"""The store whose warnings are given. Only a daemon knows its own; this one it has unless told otherwise."""


class FileVerdict(msgspec.Struct, frozen=True):
    """What `verify --output json` says about one file."""

    path: str
    """The file, as the person called it."""

    unit: str
    """The unit's name; empty when the file could not be read."""

    ok: bool
    """Whether a daemon would take the file."""

    problems: tuple[Problem, ...] = ()
    """Errors and warnings, in the file's order."""


@click.command()
@click.argument("paths", metavar="FILE|DIRECTORY|-...", nargs=-1, required=True)
@click.option("--name", default="stdin.service", help="The unit's name, for a file from standard input (-).")
@click.option(
    "--systemd-version",
    "systemd",
    type=click.IntRange(OLDEST, NEWEST),
    default=NEWEST,
    show_default=True,
    metavar="NUMBER",
    help="The version of systemd by which keys and values are judged. Every daemon judges by the newest one known.",
)
@options(output=True)
@pass_session
def verify(session: CliContext, paths: tuple[str, ...], name: str, systemd: int) -> None:
    """Check unit files as `submit` would, with the drop-ins beside them. Needs no daemon.

    A daemon is asked, if one answers, for what only a cluster knows: its classes, and what its machines run.
    Prints every problem and warning with its line; the exit code is 1 when a file would be refused.
    """
    verdicts = []
    for path in paths:
        for source in read_sources([path], unit_for(name) if path == STDIN else ""):
            verdict = (
                check(source, systemd, session, named=source.path in paths)
                if isinstance(source, UnitSource)
                else FileVerdict(source.file, "", source.severity == "warning", (source,))
            )
            verdicts.append(verdict)
            if not session.json:
                _print(session, verdict)
    if session.json:
        session.print_json(verdicts)
    if not all(verdict.ok for verdict in verdicts):
        click.get_current_context().exit(1)


def check(
    source: UnitSource, systemd: int = NEWEST, session: CliContext | None = None, *, named: bool = True
) -> FileVerdict:
    """What a daemon would say to one file, with the warnings of a version of systemd.

    `session`: its daemon is asked for what cannot be known here. `named`: the person has named this file, and not the
    directory that it is in, where `submit` passes over what is no service.
    """
    from xchronos.clock import SystemClock
    from xchronos.model.compile.unit import compile_unit
    from xchronos.registry.judging import depends_on_machines, judge
    from xchronos.registry.readers import asks_readers

    if not named and source.suffix not in ("", ".service"):
        from xchronos.unitfile import parse

        try:
            problems = (*parse(source.text, source.path).problems, _passed_over(source))
        except UnitFileError as error:
            problems = (*error.problems, _passed_over(source))
        return FileVerdict(source.path, source.name, ok=True, problems=problems)
    ask = any(b"TriggerClass" in text for text in (source.text, *(dropin.text for dropin in source.drop_ins)))
    try:
        dropins = [(dropin.path, dropin.text) for dropin in source.drop_ins]
        unit = compile_unit(source.name, source.text, dropins, source.path, systemd=systemd)
        ask = ask or depends_on_machines(unit) or asks_readers(unit)
        problems = judge(unit, source.path, now=SystemClock().now(), store=USUAL_STORE, offline=True)
        here = FileVerdict(source.path, source.name, ok=True, problems=problems)
    except UnitFileError as error:
        here = FileVerdict(source.path, source.name, ok=False, problems=error.problems)
    return (_asked(session, source) if ask and session is not None and systemd == NEWEST else None) or here


def _asked(session: CliContext, source: UnitSource) -> FileVerdict | None:
    """What the daemon says to a file. None: it does not answer, or not to us."""
    paths = {dropin.name: dropin.path for dropin in source.drop_ins}
    try:
        drop_ins = [(dropin.name, dropin.text.decode()) for dropin in source.drop_ins]
        said = session.client.verify(source.name, source.text, drop_ins=drop_ins, path=source.path)
    except (ApiError, UnicodeDecodeError):
        return None
    problems = tuple(
        msgspec.structs.replace(problem, file=paths.get(problem.file, problem.file)) for problem in said.problems
    )
    return FileVerdict(source.path, source.name, ok=said.ok, problems=problems)


def _passed_over(source: UnitSource) -> Problem:
    message = f"passed over: xchronos does not run {source.suffix} units; triggers stand in [X-Chronos] of the .service"
    return Problem(message, source.path, severity="warning")


def _print(session: CliContext, verdict: FileVerdict) -> None:
    for problem in verdict.problems:
        session.print(problem_line(problem), err=True)
    warnings = sum(problem.severity == "warning" for problem in verdict.problems)
    errors = len(verdict.problems) - warnings
    counts = [
        f"{count} {word}{'s' if count > 1 else ''}"
        for count, word in ((errors, "error"), (warnings, "warning"))
        if count
    ]
    word = click.style("ok", fg="green") if verdict.ok else click.style("refused", fg="red")
    session.print(f"{verdict.path}: {word}" + (f" ({', '.join(counts)})" if counts else ""))
