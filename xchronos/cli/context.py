"""What every command works with: the client, and how to print."""

import os
import sys
import time
from collections.abc import Callable, Iterable
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xchronos.cli.failures import exit_code, report
from xchronos.cli.text import clean
from xchronos.errors import ApiError, NotFound, XchronosError

if TYPE_CHECKING:
    from xchronos.client import Client
    from xchronos.wire.messages import Asked

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
AnswerT = TypeVar("AnswerT")

ASK_AGAIN_SECONDS = 0.25
"""Between two questions of a command that waits for something."""

STORE_AWAY = 503
"""The API's status while its job store does not answer."""


class CliContext:
    """One call of the program. `output` is `table` or `json`."""

    def __init__(self) -> None:
        self.api = ""
        self.output = "table"
        self.no_legend = False
        self.no_color = bool(os.environ.get("NO_COLOR"))
        self._client: Client | None = None

    @property
    def client(self) -> "Client":
        """The daemon's API."""
        if self._client is None:
            from xchronos.client import Client

            self._client = Client(self.api)
        return self._client

    @property
    def json(self) -> bool:
        """Whether JSON is asked for."""
        return self.output == "json"

    @property
    def terminal(self) -> bool:
        """Whether a person looks at the output; else a program reads it."""
        return sys.stdout.isatty()

    @property
    def now(self) -> datetime:
        """The time that relative times count from."""
        return datetime.now(UTC)

    def print(self, text: str = "", *, err: bool = False) -> None:
        """Print a line. Colours are left out where nobody sees them."""
        click.echo(text, err=err, color=False if self.no_color else None)

    def print_json(self, value: object) -> None:
        """Print a record, or records."""
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Options may stand before and behind the command's name."""
    if value:
        assert param.name is not None
        setattr(ctx.ensure_object(CliContext), param.name, value)


def _option(*names: str, **settings: Any) -> Callable[[CommandT], CommandT]:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def options(*, output: bool = False) -> Callable[[CommandT], CommandT]:
    """The options that all commands have; with `output`, also those of the commands that list or show."""

    def decorate(function: CommandT) -> CommandT:
        function = _option("--no-color", is_flag=True, help="No colours (also: NO_COLOR).")(function)
        function = _option("--api", metavar="ADDRESS", help="http://host:port or unix:///path (also: XCHRONOS_API).")(
            function
        )
        if output:
            function = _option("--no-legend", is_flag=True, help="No headings.")(function)
            function = _option("--output", "-o", type=click.Choice(["table", "json"]), help="How to print.")(function)
        return function

    return decorate


pass_session = click.make_pass_decorator(CliContext, ensure=True)


def unit_name(text: str) -> str:
    """The unit that a person means: `report` is `report.service`. Raises InvalidValue."""
    if text.endswith(".service"):
        return text
    from xchronos.unitfile.names import mangle

    return mangle(text)


def target_name(text: str) -> str:
    """A unit, or an execution's id (`unit/fire time/copy`). Raises InvalidValue, and NotFound for what is no id."""
    if text.count("/") != 2 or text.startswith("/"):
        return unit_name(text)
    unit, fire, copy = text.split("/")
    if not (unit and fire and copy.isdecimal()):
        raise NotFound(f"there is no execution {text}: an id is <unit>/<fire time>/<copy>, see list-executions")
    return f"{unit_name(unit)}/{fire}/{copy}"


def complete_units(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """Shell completion of unit names; none when no daemon answers."""
    from xchronos.client import Client

    try:
        return [unit.name for unit in Client(timeout=1).units() if unit.name.startswith(incomplete)]
    except XchronosError:
        return []


def for_each(targets: Iterable[str], action: Callable[[str], None]) -> None:
    """Do something to each; all are tried, and the first failure decides the exit code."""
    code = 0
    for target in targets:
        try:
            action(target)
        except XchronosError as error:
            report(error)
            code = code or exit_code(error)
    if code:
        click.get_current_context().exit(code)


def ask_each(
    session: CliContext, targets: Iterable[str], ask: Callable[[str], AnswerT], tell: Callable[[str, AnswerT], None]
) -> list[AnswerT]:
    """Ask something of each target, and `tell` what is answered: a line for each, or all answers as one JSON list."""
    answers: list[AnswerT] = []

    def one(target: str) -> None:
        answer = ask(target)
        answers.append(answer)
        if not session.json:
            tell(target, answer)

    try:
        for_each(targets, one)
    finally:
        if session.json:
            session.print_json(answers)
    return answers


def request_each(session: CliContext, targets: Iterable[str], ask: Callable[[str], "Asked"]) -> list[str]:
    """Ask something of each target that is only taken in, and tell so. Returns those of which it was."""
    answers = ask_each(session, targets, ask, lambda _, answer: session.print(f"{answer.target}: {answer.action}"))
    return [answer.target for answer in answers]


def outlast(session: CliContext, name: str, ask: Callable[[], AnswerT]) -> AnswerT:
    """An answer about `name`, which is waited for while the daemon's job store is away; so is said once."""
    told = ""
    while True:
        try:
            return ask()
        except ApiError as error:
            if error.status != STORE_AWAY:
                raise
            if str(error) != told:
                told = str(error)
                session.print(f"{name}: {clean(told)}; still waiting", err=True)
            time.sleep(ASK_AGAIN_SECONDS)


def show_each(session: CliContext, targets: Iterable[str], find: Callable[[str], tuple[object, Iterable[str]]]) -> None:
    """Show what `find` knows of each, a record and its lines: with an empty line in between, or as one JSON list."""
    shown: list[object] = []

    def one(target: str) -> None:
        record, lines = find(target)
        if not session.json:
            if shown:
                session.print()
            for line in lines:
                session.print(line)
        shown.append(record)

    try:
        for_each(targets, one)
    finally:
        if session.json:
            session.print_json(shown)
