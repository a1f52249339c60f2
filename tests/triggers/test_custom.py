"""Classes that users write."""

import sys
import types
from datetime import UTC, datetime, timedelta

import pytest

from xchronos.clock import HOUR, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.triggers import custom, parse_trigger, zone
from xchronos.triggers.base import Trigger
from xchronos.triggers.custom import load_class


class Hourly:
    def __init__(self, minute="0"):
        self.shift = int(minute) * 60_000_000

    def next_after(self, instant):
        return instant - (instant - self.shift) % HOUR + HOUR


class Anchored:
    def next_after(self, instant, anchor):
        return anchor if instant < anchor else None


class AsDatetime:
    def next_after(self, instant, *rest):
        return datetime(2030, 1, 1, tzinfo=UTC)


class Answers:
    answer = None

    def __init__(self, what):
        self.what = what

    def next_after(self, instant, anchor):
        return {
            "same": instant,
            "late": 1 << 62,
            "true": True,
            "text": "soon",
            "naive": datetime(2030, 1, 1),  # noqa: DTZ001
            "float": 1e18,
        }[self.what]


class Raises:
    def next_after(self, instant, anchor):
        raise RuntimeError("no battery")


class RaisesNothing:
    def next_after(self, instant, anchor):
        raise LookupError


class Exits:
    def next_after(self, instant, anchor):
        sys.exit(3)


class BadInit:
    def __init__(self):
        raise ValueError("no config")


class NoMethod:
    next_after = 5


class TooMany:
    def next_after(self, instant, anchor, calendar):
        return None


class TooFew:
    def next_after(self):
        return None


class Native:
    # A C function without a signature, as an extension module has them.
    next_after = staticmethod(max)


class Outer:
    class Inner:
        def next_after(self, instant, anchor):
            return None


not_a_class = Hourly()


@pytest.fixture(autouse=True)
def _module(monkeypatch):
    module = types.ModuleType("user_triggers")
    module.__dict__.update(globals())
    monkeypatch.setitem(sys.modules, "user_triggers", module)


def test_arguments_are_strings_after_blanks():
    trigger = load_class("user_triggers:Hourly   15")
    assert isinstance(trigger, Trigger)
    assert (trigger.kind, trigger.count, trigger.restartable) == ("class", None, False)
    assert trigger.next_after(0, 0) == HOUR // 4
    assert trigger.count_between(0, 10 * HOUR, 0) == 10
    assert trigger.restart(0) is trigger
    assert repr(trigger) == "CustomTrigger('user_triggers:Hourly 15')"


def test_the_anchor_is_given_to_whoever_wants_it():
    trigger = load_class("user_triggers:Anchored")
    assert trigger.next_after(5, 10) == 10
    assert trigger.next_after(10, 10) is None
    assert trigger.count_between(5, 100, 10) == 1
    assert trigger.count_between(5, 9, 10) == 0


def test_an_aware_datetime_is_converted():
    assert load_class("user_triggers:AsDatetime").next_after(0, 0) == to_instant(datetime(2030, 1, 1, tzinfo=UTC))


def test_nested_classes_and_native_methods():
    assert load_class("user_triggers:Outer.Inner").next_after(0, 0) is None
    assert load_class("user_triggers:Native").next_after(3, 9) == 9


def test_counting_is_bounded(monkeypatch):
    monkeypatch.setattr(custom, "COUNT_LIMIT", 5)
    assert load_class("user_triggers:Hourly").count_between(0, 10_000 * HOUR, 0) == 5


@pytest.mark.parametrize(
    ("what", "message"),
    [
        ("same", "next_after(7) answered 7: expected a later instant"),
        (
            "late",
            "next_after(7) answered 4611686018427387904: expected a later instant, in microseconds, up to the year",
        ),
        ("true", "next_after(7) answered a bool: expected an int"),
        ("text", "next_after(7) answered a str: expected an int"),
        ("float", "next_after(7) answered a float: expected an int"),
        ("naive", "next_after(7) answered a datetime without a zone: expected an int"),
    ],
)
def test_wrong_answers_are_named(what, message):
    with pytest.raises(InvalidTrigger) as caught:
        load_class(f"user_triggers:Answers {what}").next_after(7, 0)
    assert str(caught.value).startswith(f"TriggerClass user_triggers:Answers {what}: {message}")


@pytest.mark.parametrize(
    ("name", "message"),
    [
        ("Raises", "RuntimeError: no battery"),
        ("RaisesNothing", "LookupError"),
        ("Exits", "SystemExit: 3"),
    ],
)
def test_a_class_that_raises_kills_nothing(name, message):
    trigger = load_class(f"user_triggers:{name}")
    with pytest.raises(InvalidTrigger) as caught:
        trigger.next_after(7, 0)
    assert str(caught.value) == f"TriggerClass user_triggers:{name}: next_after(7) raised {message}"


@pytest.mark.parametrize(
    ("spec", "message"),
    [
        ("", "expected package.module:Class"),
        ("   ", "expected package.module:Class"),
        ("user_triggers", "expected package.module:Class"),
        ("user_triggers.Hourly", "expected package.module:Class"),
        ("user_triggers:", "expected package.module:Class"),
        (":Hourly", "expected package.module:Class"),
        ("user triggers:Hourly", "expected package.module:Class"),
        (".user_triggers:Hourly", "expected package.module:Class"),
        ("user_triggers:Hourly()", "expected package.module:Class"),
        ("no_such_package_anywhere.x:Y", "cannot import no_such_package_anywhere.x: ModuleNotFoundError"),
        ("user_triggers:Missing", "user_triggers has no class Missing"),
        ("user_triggers:not_a_class", "user_triggers has no class not_a_class"),
        ("user_triggers:Outer.Missing.Deep", "user_triggers has no class Outer.Missing.Deep"),
        ("user_triggers:Hourly soon", "Hourly(soon) raised ValueError"),
        ("user_triggers:Hourly 1 2", "Hourly(1, 2) raised TypeError"),
        ("user_triggers:BadInit", "BadInit() raised ValueError: no config"),
        ("user_triggers:NoMethod", "NoMethod has no method next_after(instant, anchor)"),
        ("user_triggers:TooMany", "next_after(instant, anchor, calendar) cannot be called"),
        ("user_triggers:TooFew", "next_after() cannot be called"),
    ],
)
def test_what_cannot_be_loaded(spec, message):
    with pytest.raises(InvalidTrigger) as caught:
        load_class(spec)
    assert message in str(caught.value)


def test_datetimes_keep_their_microseconds():
    class Precise:
        def next_after(self, instant):
            return datetime(2030, 1, 1, tzinfo=UTC) + timedelta(microseconds=1)

    vars(sys.modules["user_triggers"])["Precise"] = Precise
    assert load_class("user_triggers:Precise").next_after(0) == to_instant(datetime(2030, 1, 1, tzinfo=UTC)) + 1


@pytest.mark.parametrize(
    ("key", "value", "kind"),
    [
        ("TriggerCron", "0 * * * *", "cron"),
        ("TriggerCron", "@every 1h", "every"),
        ("TriggerISO8601", "R5//PT1H", "iso8601"),
        ("TriggerAt", "2030-01-01T00:00:00Z", "at"),
        ("TriggerCalendar", "daily", "calendar"),
        ("TriggerClass", "user_triggers:Hourly 5", "class"),
    ],
)
def test_every_key_has_its_trigger(key, value, kind):
    trigger = parse_trigger(key, value, zone=zone("Europe/Berlin"), unit_name="a.service")
    assert isinstance(trigger, Trigger)
    assert trigger.kind == kind


def test_an_unknown_key_is_refused():
    with pytest.raises(InvalidTrigger, match="TriggerMoon is no trigger: expected one of TriggerCron, "):
        parse_trigger("TriggerMoon", "full")
