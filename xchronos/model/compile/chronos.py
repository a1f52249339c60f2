"""The `[X-Chronos]` section: triggers, misfires, attempts, copies, history."""

import re
from hashlib import sha256
from typing import cast, get_args

import msgspec

from xchronos.clock import Instant, Micros
from xchronos.errors import InvalidTrigger, InvalidValue
from xchronos.model.compile.reader import OptionReader, one_of, whole
from xchronos.model.policies import (
    Backoff,
    Concurrency,
    ExecutorName,
    LoadBalancing,
    Misfire,
    MisfirePolicy,
    OnPartition,
    Retry,
)
from xchronos.model.unit import TriggerSpec, store_expected
from xchronos.triggers import TRIGGER_KEYS, SimpleTrigger, Zone, parse_at, parse_trigger, zone
from xchronos.triggers.cron.dialects import ZONE_PREFIXES
from xchronos.unitfile import UnitName, expand, needs_host, parse_duration
from xchronos.urls import shown

_GRID_KEYS = ("TriggerStartDelay", "TriggerRepeatInterval", "TriggerRepeatCount", "TimeZone")

CHRONOS_KEYS = frozenset((
    *TRIGGER_KEYS, *_GRID_KEYS, "NotBefore", "NotAfter", "MaxRuns", "TTL", "RandomizedDelay", "MisfirePolicy",
    "MisfireThreshold", "MisfireLimit", "StartDeadline", "Concurrency", "MaxAttempts", "TimeBetweenAttempts",
    "TimeBeetweenAttempts", "RetryBackoff", "MaxTimeBetweenAttempts", "Availability", "LoadBalancing", "Priority",
    "OnPartition", "Executor", "Artifact", "ArtifactSHA256", "Payload", "HistoryLimit", "JobStore",
))  # fmt: skip
"""Every key of the section."""

_POLICIES = {policy.value: policy for policy in MisfirePolicy}
_PREFIX = "MISFIRE_INSTRUCTION_"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")

_count_parser = whole(-1, meaning=" (-1: for ever, 0: once)")
_positive_parser = whole(1)
_limit_parser = whole(1, 10_000)
_attempts_parser = whole(1, 1_000_000)
_priority_parser = whole(-1_000_000, 1_000_000)
_history_parser = whole(1, 100_000)
_concurrency_parser = one_of(*cast("tuple[Concurrency, ...]", get_args(Concurrency)))
_balancing_parser = one_of(*cast("tuple[LoadBalancing, ...]", get_args(LoadBalancing)))
_partition_parser = one_of(*cast("tuple[OnPartition, ...]", get_args(OnPartition)))
_executor_parser = one_of(*cast("tuple[ExecutorName, ...]", get_args(ExecutorName)))
_backoff_parser = one_of(*cast("tuple[Backoff, ...]", get_args(Backoff)))


class Chronos(msgspec.Struct, frozen=True):
    """The settings of the section. The fields are those of `Unit`.

    `retry`, `on_partition` and `executor` are None if they are not set, because other sections decide their defaults.
    """

    triggers: tuple[TriggerSpec, ...]
    fingerprint: str
    time_zone: str
    start_delay: Micros
    not_before: Instant | None
    not_after: Instant | None
    max_runs: int | None
    ttl: Micros | None
    randomized_delay: Micros
    misfire: Misfire
    start_deadline: Micros | None
    concurrency: Concurrency
    retry: Retry | None
    availability: int
    load_balancing: LoadBalancing
    priority: int
    on_partition: OnPartition | None
    executor: ExecutorName | None
    artifact: str
    artifact_sha256: str
    payload: str
    history_limit: int
    job_store: str


def read_chronos(reader: OptionReader, name: UnitName) -> Chronos:
    """Read the section. Problems are reported to the reader."""
    place = reader.get("TimeZone", zone, None)
    not_before = reader.get("NotBefore", _moment, None)
    not_after = reader.get("NotAfter", _moment, None)
    if not_before is not None and not_after is not None and not_after < not_before:
        option = reader.last("NotAfter")
        assert option is not None
        reader.report(option, "lies before NotBefore, so the unit would never fire: expected a later time")
    misfire = Misfire(
        reader.get("MisfirePolicy", _policy, MisfirePolicy.SMART),
        reader.get("MisfireThreshold", _length, Misfire().threshold),
        reader.get("MisfireLimit", _limit_parser, Misfire().limit),
    )
    artifact = reader.get("Artifact", lambda text: _url(_expanded(text, name)), "")
    if reader.last("Artifact") is None:
        reader.warn("ArtifactSHA256", "does nothing without Artifact")
    return Chronos(
        triggers=_triggers(reader, place, name),
        fingerprint=_fingerprint(reader),
        time_zone="UTC" if place is None else place.name,
        start_delay=reader.get("TriggerStartDelay", _length, 0),
        not_before=not_before,
        not_after=not_after,
        max_runs=reader.get("MaxRuns", _positive_parser, None),
        ttl=reader.get("TTL", _lifetime, None),
        randomized_delay=reader.get("RandomizedDelay", _length, 0),
        misfire=misfire,
        start_deadline=reader.get("StartDeadline", parse_duration, None),
        concurrency=reader.get("Concurrency", _concurrency_parser, "allow"),
        retry=_retry(reader),
        availability=reader.get("Availability", _limit_parser, 1),
        load_balancing=reader.get("LoadBalancing", _balancing_parser, "workload"),
        priority=reader.get("Priority", _priority_parser, 0),
        on_partition=reader.get("OnPartition", _partition_parser, None),
        executor=reader.get("Executor", _executor_parser, None),
        artifact=artifact,
        artifact_sha256=reader.get("ArtifactSHA256", _sha256, ""),
        payload=reader.get("Payload", lambda text: _expanded(text, name), ""),
        history_limit=reader.get("HistoryLimit", _history_parser, 100),
        job_store=_job_store(reader),
    )


# -- triggers ----------------------------------------------------------------------------------------------------------


def _triggers(reader: OptionReader, place: Zone | None, name: UnitName) -> tuple[TriggerSpec, ...]:
    found = _simple(reader)
    for key in TRIGGER_KEYS:
        for option in reader.all(key):
            try:
                trigger = parse_trigger(key, option.value, zone=place, unit_name=name.full)
            except InvalidValue as error:
                reader.report(option, str(error))
                continue
            for warning in getattr(trigger, "warnings", ()):
                reader.report(option, warning, "warning")
            if place is not None and key == "TriggerCron" and option.value.startswith(ZONE_PREFIXES):
                own = option.value.split(maxsplit=1)[0]
                if own.partition("=")[2] != place.name:
                    reader.report(option, f"{own} counts here, not TimeZone={place.name}", "warning")
            found.append(TriggerSpec(key, option.value, trigger))
    return tuple(found)


def _simple(reader: OptionReader) -> list[TriggerSpec]:
    """The simple trigger of TriggerRepeatInterval and TriggerRepeatCount, if there is one.

    A TriggerStartDelay without any trigger is a simple trigger that fires once. The test
    `test_a_delay_beside_another_trigger_makes_none_of_its_own` pins the difference.
    """
    interval, count = reader.last("TriggerRepeatInterval"), reader.last("TriggerRepeatCount")
    delay = reader.last("TriggerStartDelay")
    if interval is None and count is None:
        if delay is None or any(reader.all(key) for key in TRIGGER_KEYS):
            return []
        return [TriggerSpec("TriggerStartDelay", delay.value, SimpleTrigger(0, 0))]
    where = interval or count
    assert where is not None
    length = reader.get("TriggerRepeatInterval", _length, None)
    times = reader.get("TriggerRepeatCount", _count_parser, None if count is not None else -1)
    if times is None or (interval is not None and length is None):
        return []
    if interval is None and times != 0:
        reader.report(where, "repeats without TriggerRepeatInterval: expected how long to wait between two fire times")
        return []
    try:
        trigger = SimpleTrigger(length or 0, times)
    except InvalidTrigger as error:
        reader.report(where, str(error))
        return []
    for warning in trigger.warnings:
        reader.report(where, warning, "warning")
    return [TriggerSpec("TriggerRepeatInterval", interval.value if interval is not None else "", trigger)]


def _fingerprint(reader: OptionReader) -> str:
    """A hash of the texts that define the grid. When it changes, the schedule starts anew (`test_changes`)."""
    said = [f"{key}={option.value}" for key in TRIGGER_KEYS for option in reader.all(key)]
    single = ((key, reader.last(key)) for key in _GRID_KEYS)
    said.extend(f"{key}={option.value}" for key, option in single if option is not None)
    return sha256("\n".join(said).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# -- values ------------------------------------------------------------------------------------------------------------


def _retry(reader: OptionReader) -> Retry | None:
    """The attempts that the section allows. None if it has no MaxAttempts, so that Restart= decides."""
    key = "TimeBetweenAttempts"
    if reader.last(key) is None:
        key = "TimeBeetweenAttempts"
    else:
        reader.warn("TimeBeetweenAttempts", "does nothing beside TimeBetweenAttempts, which is the same key")
    attempts = reader.get("MaxAttempts", _attempts_parser, None)
    delay = reader.get(key, _length, 0)
    backoff: Backoff = reader.get("RetryBackoff", _backoff_parser, "constant")
    longest = reader.get("MaxTimeBetweenAttempts", parse_duration, None)
    if attempts is None:
        if reader.last("MaxAttempts") is None:
            for lone in (key, "RetryBackoff", "MaxTimeBetweenAttempts"):
                reader.warn(lone, "does nothing without MaxAttempts, which is 1 by default")
        return None
    if backoff == "constant":
        reader.warn("MaxTimeBetweenAttempts", "does nothing without RetryBackoff=exponential")
    elif delay == 0:
        reader.warn("RetryBackoff", "doubles a TimeBetweenAttempts of 0, which stays 0")
    return Retry(attempts, delay, backoff, longest)


def _job_store(reader: OptionReader) -> str:
    """The kind of store that the unit expects. It is always a warning here; `Unit.warnings_on` may leave it out."""
    option = reader.last("JobStore")
    if option is None:
        return ""
    reader.report(option, store_expected(option.value), "warning")
    return option.value


def _length(text: str) -> Micros:
    length = parse_duration(text)
    if length is None:
        raise InvalidValue(f"{text!r}: expected a finite length of time, like 10000 (ms), 10s, 5min 20s or PT10S")
    return length


def _lifetime(text: str) -> Micros | None:
    length = parse_duration(text)
    if length == 0:
        raise InvalidValue(f"{text!r}: expected more than zero, or infinity")
    return length


def _moment(text: str) -> Instant:
    return parse_at(text).at


def _policy(text: str) -> MisfirePolicy:
    policy = _POLICIES.get(text.removeprefix(_PREFIX))
    if policy is None:
        raise InvalidValue(f"{text!r}: expected one of {', '.join(_POLICIES)} (with or without {_PREFIX})")
    return policy


def _expanded(text: str, name: UnitName) -> str:
    """The value with the specifiers of the unit's name filled in, and `%%` read as `%`. Raises InvalidValue."""
    if "%" not in text:
        return text
    filled = expand(text, name)
    if needs_host(filled):
        raise InvalidValue(
            f"{text!r} speaks of the machine, which is not known here: expected %n %N %p %i and their kin"
        )
    return filled.replace("%%", "%")


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://", "file:///")):
        raise InvalidValue(f"{shown(text)!r}: expected an http://, https:// or file:/// URL")
    return text


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise InvalidValue(f"{text!r}: expected the 64 hex digits of a SHA-256")
    return text.lower()
