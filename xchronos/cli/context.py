"""What every command works with: the options, the client, and how to print."""

import os
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, TypeVar

import click

from xchronos.cli.failures import exit_code, report
from xchronos.cli.patterns import is_pattern, matches
from xchronos.cli.text import clean
from xchronos.errors import ApiError, Conflict, InvalidValue, NotFound, XchronosError
from xchronos.limits import MOST_LISTED

if TYPE_CHECKING:
    from xchronos.client import Client
    from xchronos.wire.messages import Asked

CommandT = TypeVar("CommandT", bound=Callable[..., Any])
AnswerT = TypeVar("AnswerT")

ASK_AGAIN_SECONDS = 0.25
"""How long a command that waits for something pauses between two questions."""

STORE_AWAY = 503
"""The HTTP status of the API while its job store does not answer."""


class CliContext:
    """One call of the program. Click fills in the options while it reads the command line."""

    def __init__(self) -> None:
        self.api = ""
        """The address of the API; empty: the environment's, else the usual one."""
        self.output = "table"
        """`table`, `wide` (nothing is left out or shortened) or `json`."""
        self.no_legend = False
        """Whether tables have no headings."""
        self.no_color = bool(os.environ.get("NO_COLOR"))
        """Whether nothing is printed in colour."""
        self._client: Client | None = None

    @property
    def client(self) -> "Client":
        """The client of the daemon's API, made when it is first asked for."""
        if self._client is None:
            from xchronos.client import Client

            self._client = Client(self.api)
        return self._client

    @property
    def json(self) -> bool:
        """Whether JSON is asked for."""
        return self.output == "json"

    @property
    def wide(self) -> bool:
        """Whether tables leave nothing out: asked for, or a program reads them."""
        return self.output == "wide" or not self.terminal

    @property
    def terminal(self) -> bool:
        """Whether a person reads the output at a terminal; else a program reads it."""
        return sys.stdout.isatty()

    @property
    def now(self) -> datetime:
        """The present time, from which relative times are counted."""
        return datetime.now(UTC)

    def print(self, text: str = "", *, err: bool = False) -> None:
        """Print a line. Click leaves colours out when the output is no terminal."""
        click.echo(text, err=err, color=False if self.no_color else None)

    def print_json(self, value: object) -> None:
        """Print a record, or a list of records, as JSON."""
        import msgspec

        click.echo(msgspec.json.format(msgspec.json.encode(value), indent=2))


def _remember(ctx: click.Context, param: click.Parameter, value: Any) -> None:
    """Keep an option's value, which may stand before or after the command's name."""
    if value:
        assert param.name is not None
        setattr(ctx.ensure_object(CliContext), param.name, value)


def _option(*names: str, **settings: Any) -> Callable[[CommandT], CommandT]:
    return click.option(*names, expose_value=False, callback=_remember, **settings)


def options(*, output: bool = False) -> Callable[[CommandT], CommandT]:
    """A decorator that gives a command the options that all commands have.

    With `output`, the command also gets those of commands that list or show.
    """

    def decorate(function: CommandT) -> CommandT:
        function = _option("--no-color", is_flag=True, help="No colours (also: NO_COLOR).")(function)
        function = _option("--api", metavar="ADDRESS", help="http://host:port or unix:///path (also: XCHRONOS_API).")(
            function
        )
        if output:
            function = _option("--no-legend", is_flag=True, help="No headings.")(function)
            function = _option(
                "--output",
                "-o",
                type=click.Choice(["table", "wide", "json"]),
                help="How to print; wide: all columns, whole ids.",
            )(function)
        return function

    return decorate


pass_session = click.make_pass_decorator(CliContext, ensure=True)


def unit_name(text: str) -> str:
    """The name of the unit that a person means: `report` is `report.service`. Raises InvalidValue."""
    if is_pattern(text):
        raise InvalidValue(
            f"{text}: expected the name of one unit; list-units, status, start, stop, pause, resume and "
            "destroy take patterns"
        )
    if text.endswith(".service"):
        return text
    from xchronos.unitfile.names import mangle

    return mangle(text)


def expanded(session: CliContext, targets: Iterable[str]) -> Iterator[str]:
    """The targets, each pattern replaced by the names of the units that match. Raises NotFound if none does."""
    names: list[str] | None = None
    for target in targets:
        if not is_pattern(target):
            yield target
            continue
        names = [unit.name for unit in session.client.units() if unit.state != "refused"] if names is None else names
        found = [name for name in names if matches(name, target)]
        if not found:
            raise NotFound(f"no unit matches {target}")
        yield from found


def execution_id(session: CliContext, target: str) -> str:
    """The id of the execution that a person means by it, or by its beginning (`unit/20300101T1200`), as tables show it.

    What is a unit's name comes back as it is. Raises NotFound, and Conflict if several begin so.
    """
    if "/" not in target or target.count("/") == 2:
        return target_name(target)
    unit, _, start = target.partition("/")
    unit = unit_name(unit)
    found = [
        one.id
        for one in session.client.executions(unit, limit=MOST_LISTED).executions
        if one.id.startswith(f"{unit}/{start}")
    ]
    if len(found) > 1:
        raise Conflict(f"{target} is the beginning of {len(found)} executions' ids, such as {found[0]} and {found[1]}")
    if not found:
        raise NotFound(f"there is no execution {target}: see list-executions {unit}")
    return found[0]


def target_name(text: str) -> str:
    """A unit's name or an execution's id (`unit/fire time/copy`), whichever a person means.

    Raises:
        InvalidValue: the unit's name is none.
        NotFound: the text looks like an id and is none.
    """
    if text.count("/") != 2 or text.startswith("/"):
        return unit_name(text)
    unit, fire, copy = text.split("/")
    if not (unit and fire and copy.isdecimal()):
        raise NotFound(f"there is no execution {text}: an id is <unit>/<fire time>/<copy>, see list-executions")
    return f"{unit_name(unit)}/{fire}/{copy}"


def complete_units(ctx: click.Context, param: click.Parameter, incomplete: str) -> list[str]:  # noqa: ARG001 - click's
    """The unit names that a shell may complete the word to; none when no daemon answers within a second."""
    from xchronos.client import Client

    try:
        return [unit.name for unit in Client(timeout=1).units() if unit.name.startswith(incomplete)]
    except XchronosError:
        return []


def for_each(targets: Iterable[str], action: Callable[[str], None]) -> None:
    """Do something to each target. All of them are tried, and the first failure decides the exit code."""
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
    """Ask something of each target, each pattern replaced, and print the answers; return those that came.

    `tell` prints an answer as lines. With `--output json`, all answers are printed as one list instead.
    """
    return _ask_each(session, expanded(session, targets), ask, tell)


def _ask_each(
    session: CliContext, targets: Iterable[str], ask: Callable[[str], AnswerT], tell: Callable[[str, AnswerT], None]
) -> list[AnswerT]:
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
    """Send each target a request that the daemon only takes in; print that it did, and return those targets."""
    return request_each_of(session, expanded(session, targets), ask)


def request_each_of(session: CliContext, targets: Iterable[str], ask: Callable[[str], "Asked"]) -> list[str]:
    """The same for targets that are no patterns."""

    def tell(_: str, answer: "Asked") -> None:
        session.print(f"{answer.target}: {answer.action}")
        if answer.note:
            session.print(clean(answer.note), err=True)

    answers = _ask_each(session, targets, ask, tell)
    return [answer.target for answer in answers]


def outlast(session: CliContext, name: str, ask: Callable[[], AnswerT]) -> AnswerT:
    """The answer of `ask`, which is asked again for as long as the daemon's job store is away.

    What is wrong with the store is printed once, after `name`.
    """
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
    """Print what `find` finds for each target: a record, and the lines that show it.

    An empty line stands between two of them. With `--output json`, the records are printed as one list instead.
    """
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
        for_each(expanded(session, targets), one)
    finally:
        if session.json:
            session.print_json(shown)
