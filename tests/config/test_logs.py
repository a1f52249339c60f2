"""What comes out of the daemon's log, from structlog and from the libraries alike."""

import io
import json
import logging
import re
import sys

import pytest
import structlog

from xchronos.logs import _CHATTY, _COMPLAINTS, _LIBRARIES, REPEATED_SECONDS, _Calm, _LinesHandler, configure_logging


@pytest.fixture(autouse=True)
def as_it_was():
    root = logging.getLogger()
    level = root.level
    yield
    structlog.reset_defaults()
    structlog.contextvars.clear_contextvars()
    root.setLevel(level)
    for handler in [handler for handler in root.handlers if isinstance(handler, _LinesHandler)]:
        root.removeHandler(handler)
    for name in {*_CHATTY, *_LIBRARIES}:
        logging.getLogger(name).setLevel(logging.NOTSET)


class Terminal(io.StringIO):
    def isatty(self):
        return True


class Broken(io.StringIO):
    def write(self, _text):
        raise BrokenPipeError


def lines(stream):
    return [json.loads(line) for line in stream.getvalue().splitlines()]


def test_a_line_of_json():
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    structlog.contextvars.bind_contextvars(machine="m1")
    structlog.get_logger("xchronos.engine").warning("late", unit="a.service", by=1.5, where={"x"})
    (line,) = lines(stream)
    assert list(line)[:4] == ["timestamp", "level", "event", "logger"]
    assert re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z", line.pop("timestamp"))
    assert line == {
        "level": "warning",
        "event": "late",
        "logger": "xchronos.engine",
        "unit": "a.service",
        "by": 1.5,
        "where": "{'x'}",
        "machine": "m1",
    }


def test_the_libraries_come_out_the_same_way_and_once():
    stream = io.StringIO()
    logging.getLogger("uvicorn.error").addHandler(logging.StreamHandler(io.StringIO()))
    configure_logging("json", "info", stream)
    configure_logging("json", "info", stream)
    logging.getLogger("uvicorn.error").info("started on %s", "127.0.0.1")
    logging.getLogger("anything").error("bad")
    first, second = lines(stream)
    assert (first["level"], first["event"], first["logger"]) == ("info", "started on 127.0.0.1", "uvicorn.error")
    assert (second["level"], second["event"], second["logger"]) == ("error", "bad", "anything")
    assert logging.getLogger("uvicorn.error").handlers == []


def test_levels_hold_for_both():
    stream = io.StringIO()
    configure_logging("json", "warning", stream)
    structlog.get_logger("a").info("quiet")
    logging.getLogger("a").info("quiet")
    logging.getLogger("uvicorn.access").info("quiet")
    structlog.get_logger("a").error("loud")
    logging.getLogger("a").warning("loud")
    assert [line["event"] for line in lines(stream)] == ["loud", "loud"]


@pytest.mark.parametrize(
    ("level", "message_level", "seen"),
    [
        ("info", logging.INFO, False),
        ("info", logging.WARNING, True),
        ("debug", logging.INFO, True),
        ("error", logging.WARNING, False),
    ],
)
def test_chatty_libraries_are_heard_when_it_matters(level, message_level, seen):
    stream = io.StringIO()
    configure_logging("json", level, stream)
    logging.getLogger("watchfiles.main").log(message_level, "1 change detected")
    assert bool(lines(stream)) == seen


@pytest.mark.parametrize("name", ["watchfiles.main", "grpc._cython.cygrpc"])
def test_libraries_do_not_drown_the_decisions(name):
    stream = io.StringIO()
    configure_logging("json", "warning", stream)
    logging.getLogger(name).info("a call")
    configure_logging("json", "debug", stream)
    logging.getLogger(name).debug("a tick")
    assert lines(stream) == []
    logging.getLogger(name).info("a change")
    assert [line["event"] for line in lines(stream)] == ["a change"]


@pytest.mark.parametrize(("stream", "coloured"), [(io.StringIO(), False), (Terminal(), True)])
def test_people_get_colour_on_a_terminal_only(stream, coloured):
    configure_logging("console", "info", stream)
    structlog.get_logger("xchronos.agent").info("step ended", unit="a.service")
    logging.getLogger("litestar").warning("hm")
    text = stream.getvalue()
    assert ("\x1b[" in text) == coloured
    plain = re.sub(r"\x1b\[[0-9;]*m", "", text)
    first, second = plain.splitlines()
    assert re.match(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{6}Z \[info", first)
    assert "step ended" in first
    assert "unit=a.service" in first
    assert "[litestar]" in second


@pytest.mark.parametrize("form", ["console", "json"])
def test_an_exception_comes_with_its_traceback(form):
    stream = io.StringIO()
    configure_logging(form, "info", stream)
    nothing: dict[str, str] = {}
    try:
        nothing["lost"]
    except KeyError:
        structlog.get_logger("a").exception("went wrong")
        logging.getLogger("b").exception("went wrong, too")
    assert stream.getvalue().count("KeyError: 'lost'") == 2
    assert stream.getvalue().count("Traceback") == 2
    if form == "json":
        assert len(lines(stream)) == 2


def test_a_log_that_nobody_reads_stops_nothing():
    stream = Broken()
    configure_logging("json", "info", stream)
    structlog.get_logger("a").info("into the void")
    logging.getLogger("b").error("into the void")
    assert stream.getvalue() == ""
    closed = io.StringIO()
    configure_logging("json", "info", closed)
    closed.close()
    structlog.get_logger("a").info("into the void")


def test_stderr_is_the_place(capsys):
    configure_logging("json")
    structlog.get_logger().info("here")
    captured = capsys.readouterr()
    assert json.loads(captured.err)["event"] == "here"
    assert json.loads(captured.err)["logger"] == ""
    assert captured.out == ""
    assert sys.stderr is not None


def test_a_flood_of_one_complaint_is_a_line_now_and_then():
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    logger = logging.getLogger("uvicorn.error")

    def complain(at, words, *args):
        record = logger.makeRecord(logger.name, logging.WARNING, "file", 1, words, args, None)
        record.created = 1_000_000 + at
        logger.handle(record)

    for number in range(3000):
        complain(number / 1000, "Invalid HTTP request received from %s.", number)
    complain(REPEATED_SECONDS, "Invalid HTTP request received from %s.", "x")
    complain(REPEATED_SECONDS, "another complaint")
    assert [line["event"] for line in lines(stream)] == [
        "Invalid HTTP request received from 0.",
        "Invalid HTTP request received from x. (and 2999 more like it)",
        "another complaint",
    ]


def test_complaints_that_all_differ_do_not_fill_the_memory():
    stream = io.StringIO()
    configure_logging("json", "info", stream)
    (handler,) = [handler for handler in logging.getLogger().handlers if isinstance(handler, _LinesHandler)]
    (calm,) = handler.filters
    assert isinstance(calm, _Calm)
    for number in range(3 * _COMPLAINTS):
        logging.getLogger("asyncio").warning(f"complaint {number}")  # noqa: G004
    assert len(lines(stream)) == 3 * _COMPLAINTS
    assert len(calm._told) <= _COMPLAINTS


@pytest.mark.parametrize("form", ["json", "console"])
def test_urls_are_logged_without_their_secrets(form):
    stream = io.StringIO()
    configure_logging(form, "info", stream)
    url = "https://me:pass1@h/x?sig=pass2"
    structlog.get_logger("ours").info(f"cannot get {url}", url=url, problems=[f"{url}: no", 3], number=3)
    logging.getLogger("theirs").warning("no answer of %s", url)
    try:
        int(url)
    except ValueError:
        structlog.get_logger("ours").exception("failed")
    told = stream.getvalue()
    assert "pass1" not in told
    assert "pass2" not in told
    assert told.count("https://...@h/x?sig=...") == 5
