"""The daemon's own log: one line for each event on stderr, for people or for machines.

xchronos logs through structlog, and the libraries log through `logging`. Both come out the same way. Times are RFC 3339
in UTC. What the steps of units print is no log of the daemon, and never comes here.
"""

import io
import logging
import sys
from contextlib import suppress
from typing import Literal, TextIO

import structlog
from structlog.typing import EventDict, ExcInfo, Processor, WrappedLogger

from xchronos.urls import shown

FIRST_KEYS = ("timestamp", "level", "event", "logger")
"""The keys with which a line of JSON begins, in this order."""

_CHATTY = ("uvicorn.access", "aiohttp.access", "asyncio", "httpx", "httpcore")
"""Loggers that tell of every request or change. Below a warning they are only heard at the level debug."""

_DROWNING = {"watchfiles": logging.WARNING, "grpc": logging.INFO}
"""Loggers that tell of every tick and every call, with the least of them that is heard. Not even at the level debug is
more of them heard than their infos: they would drown the decisions."""

_LIBRARIES = ("uvicorn", "uvicorn.error", "uvicorn.access", "litestar", "aiohttp", "aiohttp.access", "watchfiles")
"""Loggers to which their libraries may have given handlers. Their lines would come twice."""


REPEATED_SECONDS = 5.0
"""How often the same complaint of a library is written at most."""

_COMPLAINTS = 1_000
"""How many different complaints are remembered."""


class _Lines:
    """Writes finished lines.

    A log that cannot be written is no reason to stop working, so the line is lost
    (`test_a_log_that_nobody_reads_stops_nothing` in tests/config/test_logs.py).
    """

    def __init__(self, stream: TextIO | None, name: str = "") -> None:
        self._stream = stream
        self.name = name

    def msg(self, line: str) -> None:
        # The pipe's reader may be gone, the disk may be full, or the stream closed at the end of the process.
        with suppress(OSError, ValueError):
            stream = self._stream or sys.stderr
            stream.write(line + "\n")
            stream.flush()

    debug = info = warning = error = critical = exception = fatal = log = msg


class _LinesHandler(logging.Handler):
    """Writes the lines of `logging` in the same way."""

    def __init__(self, stream: TextIO | None) -> None:
        super().__init__()
        self._lines = _Lines(stream)

    def emit(self, record: logging.LogRecord) -> None:
        self._lines.msg(self.format(record))


class _Calm(logging.Filter):
    """Lets the same complaint of a library through once in REPEATED_SECONDS, with the number of those kept back.

    Each peer that sends nonsense is a complaint, and each connection that finds no descriptor is one: a flood of them
    filled 26 MB in ten seconds.
    """

    def __init__(self) -> None:
        super().__init__()
        self._told: dict[tuple[str, int, str], tuple[float, int]] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        """Whether the line is written."""
        if record.levelno < logging.WARNING or record.name.startswith("xchronos"):
            return True
        key = (record.name, record.levelno, record.msg if isinstance(record.msg, str) else type(record.msg).__name__)
        told, kept_back = self._told.get(key, (-REPEATED_SECONDS, 0))
        if record.created - told < REPEATED_SECONDS:
            self._told[key] = (told, kept_back + 1)
            return False
        if len(self._told) >= _COMPLAINTS:
            self._told.clear()
        self._told[key] = (record.created, 0)
        if kept_back:
            record.msg = f"{record.getMessage()} (and {kept_back} more like it)"
            record.args = None
        return True


def configure_logging(
    form: Literal["console", "json"] = "console", level: str = "info", stream: TextIO | None = None
) -> None:
    """Set up logging for this process. A second call replaces what the first has set up.

    Args:
        form: `console` for people, in colour on a terminal; `json` for one object in each line.
        level: The least that is logged: debug, info, warning, error or critical.
        stream: Where lines go; None: to what stderr is when a line is written.
    """
    least = logging.getLevelNamesMapping()[level.upper()]
    common: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.processors.add_log_level,
        structlog.stdlib.add_logger_name,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.StackInfoRenderer(),
        _without_secrets,
    ]
    render = _renderers(form, stream or sys.stderr)
    structlog.configure(
        processors=[*common, *render],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *names: _Lines(stream, str(names[0]) if names else ""),
        cache_logger_on_first_use=False,
    )
    handler = _LinesHandler(stream)
    handler.addFilter(_Calm())
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=common,
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, *render],
        )
    )
    root = logging.getLogger()
    for other in [other for other in root.handlers if isinstance(other, _LinesHandler)]:
        root.removeHandler(other)
    root.addHandler(handler)
    root.setLevel(least)
    for name in _LIBRARIES:
        library = logging.getLogger(name)
        library.handlers.clear()
        library.propagate = True
    for name in _CHATTY:
        logging.getLogger(name).setLevel(logging.DEBUG if least <= logging.DEBUG else max(least, logging.WARNING))
    for name, usual in _DROWNING.items():
        logging.getLogger(name).setLevel(logging.INFO if least <= logging.DEBUG else max(least, usual))


def _renderers(form: str, stream: TextIO) -> list[Processor]:
    if form == "json":
        return [
            structlog.processors.format_exc_info,
            _without_secrets,
            _in_order,
            structlog.processors.JSONRenderer(default=str),
        ]
    colours = stream.isatty()
    return [structlog.dev.ConsoleRenderer(colors=colours, exception_formatter=_traceback)]


def _in_order(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    first = {key: event[key] for key in FIRST_KEYS if key in event}
    return {**first, **event}


def _traceback(stream: TextIO, error: ExcInfo) -> None:
    plain = io.StringIO()
    structlog.dev.plain_traceback(plain, error)
    stream.write(shown(plain.getvalue()))


def _without_secrets(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
    """Every URL of a line as people may see it, whoever logs it: an artifact's, a store's, a library's."""
    for key, value in event.items():
        if isinstance(value, str) and "://" in value:
            event[key] = shown(value)
        elif isinstance(value, list):
            event[key] = [shown(each) if isinstance(each, str) else each for each in value]
    return event
