"""The command `calendar`: the next fire times of a unit on the daemon, of a unit file, or of an expression.

Only the first of them asks a daemon.
"""

from datetime import UTC, datetime, tzinfo
from pathlib import Path
from typing import TYPE_CHECKING

import click

from xchronos.cli.context import CliContext, complete_units, options, pass_session, unit_name
from xchronos.cli.text import clean
from xchronos.cli.times import human_time, machine_time
from xchronos.errors import InvalidValue, Problem, UnitFileError
from xchronos.limits import FIRE_TIMES, MOST_FIRE_TIMES
from xchronos.wire.messages import Calendar

if TYPE_CHECKING:
    from xchronos.model.unit import Unit

KEY_OF_OPTION = {"cron": "TriggerCron", "iso8601": "TriggerISO8601", "at": "TriggerAt", "calendar": "TriggerCalendar"}


@click.command()
@click.argument("target", metavar="[UNIT|FILE]", required=False, shell_complete=complete_units)
@click.option("--cron", help="A cron expression (TriggerCron).")
@click.option("--iso8601", help="A repeating interval (TriggerISO8601): R5/2030-01-01T00:00:00Z/PT10M.")
@click.option("--at", help="One instant (TriggerAt): RFC 3339, or unix seconds.")
@click.option("--calendar", "calendar_event", help="A calendar event (TriggerCalendar): Mon..Fri 9:00.")
@click.option("--tz", default="", help="The time zone of the expression: Europe/Berlin.")
@click.option("--from", "since", metavar="TIME", help="From this time on (RFC 3339), instead of now. Not for a UNIT.")
@click.option(
    "--n", "-n", "count", type=click.IntRange(1, MOST_FIRE_TIMES), default=FIRE_TIMES, help=f"How many ({FIRE_TIMES})."
)
@options(output=True)
@pass_session
def calendar(
    session: CliContext,
    target: str | None,
    cron: str | None,
    iso8601: str | None,
    at: str | None,
    calendar_event: str | None,
    tz: str,
    since: str | None,
    count: int,
) -> None:
    """Show the next fire times of a unit (asks the daemon), or offline of a unit file or of an expression."""
    given = {"cron": cron, "iso8601": iso8601, "at": at, "calendar": calendar_event}
    expressions = [(KEY_OF_OPTION[kind], text) for kind, text in given.items() if text is not None]
    if (target is None) == (not expressions):
        raise click.UsageError("expected a UNIT, a FILE, or an expression (--cron, --iso8601, --at, --calendar)")
    zone: tzinfo | None = None
    if expressions:
        found, zone = _of_expressions(expressions, tz, since, count)
    elif target is not None and _is_file(target):
        found = _of_file(session, Path(target), since, count)
    else:
        if since is not None or tz:
            raise click.UsageError("--from and --tz are for files and expressions; the daemon answers from now on")
        assert target is not None
        found = session.client.calendar(unit_name(target), count)
    if session.json:
        session.print_json(found)
    else:
        _print(session, found, zone or _zone_of(found))


def _zone_of(found: Calendar) -> tzinfo | None:
    """The zone in which the unit's times are meant; None where it is not known here, or the daemon does not tell."""
    from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

    try:
        return ZoneInfo(found.zone) if found.zone else None
    except (ZoneInfoNotFoundError, ValueError):
        return None


def _is_file(target: str) -> bool:
    """Whether the argument means a file. A bare name means the unit on the daemon, unless such a file is here."""
    return "/" in target or Path(target).is_file()


def _instant(since: str | None) -> int:
    from xchronos.clock import SystemClock, to_instant

    if since is None:
        return SystemClock().now()
    try:
        moment = datetime.fromisoformat(since)
    except ValueError:
        raise click.BadParameter(f"{since!r}: expected a time like 2030-01-01T00:00:00Z", param_hint="--from") from None
    # A time without an offset is in UTC, as everywhere in xchronos.
    return to_instant(moment if moment.tzinfo is not None else moment.replace(tzinfo=UTC))


def _of_expressions(
    expressions: list[tuple[str, str]], tz: str, since: str | None, count: int
) -> tuple[Calendar, tzinfo | None]:
    from zoneinfo import ZoneInfo

    from xchronos.api.views import calendar as upcoming
    from xchronos.model.unit import TriggerSpec, Unit
    from xchronos.triggers import parse_trigger, zone

    place = zone(tz) if tz else None
    specs = []
    for key, text in expressions:
        try:
            specs.append(TriggerSpec(key, text, parse_trigger(key, text, zone=place)))
        except InvalidValue as error:
            raise UnitFileError([Problem(str(error), key=key)]) from error
    found = upcoming(Unit("expression.service", "", triggers=tuple(specs)), None, _instant(since), count)
    return Calendar("", found.triggers, found.fires), ZoneInfo(tz) if tz else None


def _of_file(session: CliContext, path: Path, since: str | None, count: int) -> Calendar:
    from xchronos.api.views import calendar as upcoming
    from xchronos.cli.commands.verify import USUAL_STORE
    from xchronos.cli.files import read_sources
    from xchronos.cli.text import problem_line

    source = next(read_sources([str(path)])) if not path.is_dir() else Problem("is a directory", str(path))
    if isinstance(source, Problem):
        raise UnitFileError([source])
    unit = _compiled(source.name, source.text, [(d.path, d.text) for d in source.drop_ins], source.path)
    for problem in unit.warnings_on(USUAL_STORE):
        session.print(problem_line(problem), err=True)
    return upcoming(unit, None, _instant(since), count)


def _compiled(name: str, text: bytes, drop_ins: list[tuple[str, bytes]], path: str) -> "Unit":
    from xchronos.model.compile.unit import compile_unit

    return compile_unit(name, text, drop_ins, path)


def _print(session: CliContext, found: Calendar, zone: tzinfo | None) -> None:
    from xchronos.cli.tables import show

    now = session.now

    def told(moment: datetime | None) -> str:
        return human_time(moment, now, zone) if session.terminal else machine_time(moment)

    if found.unit:
        session.print(f"{found.unit}{f' ({clean(found.note)})' if found.note else ''}")
    if not found.triggers:
        session.print("no trigger: it runs when it is started")
        return
    show(session, ("TRIGGER", "KIND", "NEXT"), [(f"{t.key}={t.text}", t.kind, told(t.next)) for t in found.triggers])
    session.print()
    if not found.fires:
        session.print("no further fire time")
        return
    delayed = any(fire.starts_at is not None for fire in found.fires)
    titles = ("FIRE TIME", "TRIGGER", *(("STARTS AT",) if delayed else ()))
    show(
        session,
        titles,
        [
            (told(f.fire_time), f.trigger, *((told(f.starts_at or f.fire_time),) if delayed else ()))
            for f in found.fires
        ],
    )
