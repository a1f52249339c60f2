"""The `[X-Chronos]` section: when, how stubbornly, how many."""

import re
from datetime import datetime
from hashlib import sha256
from typing import cast

import msgspec

from xchronos.clock import Instant, Micros, to_instant
from xchronos.errors import InvalidTrigger, InvalidValue
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
from xchronos.model.reader import Reader, one_of, whole
from xchronos.model.unit import TriggerSpec
from xchronos.triggers import SimpleTrigger, Trigger, Zone, parse_trigger, zone
from xchronos.unitfile import parse_duration

TRIGGER_KEYS = ("TriggerCron", "TriggerISO8601", "TriggerAt", "TriggerCalendar", "TriggerClass")
"""The keys that each hold a whole trigger; all may be repeated."""

FINGERPRINT_KEYS = (
    *TRIGGER_KEYS, "TriggerStartDelay", "TriggerRepeatInterval", "TriggerRepeatCount", "TimeZone",
)  # fmt: skip
"""The keys that decide where the grid lies: a change to one of them starts the schedule anew."""

KNOWN_KEYS = frozenset((
    *FINGERPRINT_KEYS, "NotBefore", "NotAfter", "MaxRuns", "TTL", "RandomizedDelay", "MisfirePolicy", "MisfireThreshold",
    "MisfireLimit", "StartDeadline", "Concurrency", "MaxAttempts", "TimeBetweenAttempts", "TimeBeetweenAttempts",
    "RetryBackoff", "MaxTimeBetweenAttempts", "Availability", "LoadBalancing", "Priority", "OnPartition", "Executor",
    "Artifact", "ArtifactSHA256", "Payload", "HistoryLimit", "JobStore",
))  # fmt: skip

_POLICIES = {policy.value: policy for policy in MisfirePolicy}
_PREFIX = "MISFIRE_INSTRUCTION_"
_SHA256 = re.compile(r"[0-9a-fA-F]{64}")


class Chronos(msgspec.Struct, frozen=True):
    """What the section says. Fields are `Unit`'s; None where another section decides the default."""

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


def read_chronos(reader: Reader, name: str) -> Chronos:
    """Read the section; what is wrong with it is reported."""
    time_zone = reader.get("TimeZone", lambda text: zone(text) and text, "UTC")
    place = zone(time_zone)
    not_before = reader.get("NotBefore", _moment, None)
    not_after = reader.get("NotAfter", _moment, None)
    if not_before is not None and not_after is not None and not_after < not_before:
        option = reader.last("NotAfter")
        assert option is not None
        reader.report(option, "lies before NotBefore: the unit would never fire")
    misfire = Misfire(
        reader.get("MisfirePolicy", _policy, MisfirePolicy.SMART),
        reader.get("MisfireThreshold", _length, 60_000_000),
        reader.get("MisfireLimit", whole(1, 10_000), 100),
    )
    return Chronos(
        triggers=_triggers(reader, place, name),
        fingerprint=_fingerprint(reader),
        time_zone=time_zone,
        start_delay=reader.get("TriggerStartDelay", _length, 0),
        not_before=not_before,
        not_after=not_after,
        max_runs=reader.get("MaxRuns", whole(1), None),
        ttl=reader.get("TTL", _positive, None),
        randomized_delay=reader.get("RandomizedDelay", _length, 0),
        misfire=misfire,
        start_deadline=reader.get("StartDeadline", _length, None),
        concurrency=cast("Concurrency", reader.get("Concurrency", one_of("allow", "forbid", "replace", "queue"), "allow")),
        retry=_retry(reader),
        availability=reader.get("Availability", whole(1, 10_000), 1),
        load_balancing=cast(
            "LoadBalancing", reader.get("LoadBalancing", one_of("workload", "random", "round-robin"), "workload")
        ),
        priority=reader.get("Priority", whole(-1_000_000, 1_000_000), 0),
        on_partition=cast("OnPartition | None", reader.get("OnPartition", one_of("continue", "stop"), None)),
        executor=cast(
            "ExecutorName | None", reader.get("Executor", one_of("docker", "process", "http", "python"), None)
        ),
        artifact=reader.get("Artifact", _url, ""),
        artifact_sha256=reader.get("ArtifactSHA256", _sha256, ""),
        payload=reader.get("Payload", str, ""),
        history_limit=reader.get("HistoryLimit", whole(1, 100_000), 100),
        job_store=_job_store(reader),
    )


# -- triggers ----------------------------------------------------------------------------------------------------------


def _triggers(reader: Reader, place: Zone, name: str) -> tuple[TriggerSpec, ...]:
    found = _simple(reader)
    for key in TRIGGER_KEYS:
        for option in reader.all(key):
            try:
                trigger = parse_trigger(key, option.value, zone=place, unit_name=name)
            except InvalidValue as error:
                reader.report(option, str(error))
                continue
            for warning in getattr(trigger, "warnings", ()):
                reader.report(option, warning, "warning")
            found.append(TriggerSpec(key, option.value, trigger))
    return tuple(found)


def _simple(reader: Reader) -> list[TriggerSpec]:
    """TriggerRepeatInterval and TriggerRepeatCount make a simple trigger; so does a lone TriggerStartDelay (once)."""
    interval, count = reader.last("TriggerRepeatInterval"), reader.last("TriggerRepeatCount")
    delay = reader.last("TriggerStartDelay")
    if interval is None and count is None:
        if delay is None or any(reader.all(key) for key in TRIGGER_KEYS):
            return []
        return [TriggerSpec("TriggerStartDelay", delay.value, SimpleTrigger(0, 0))]
    length = reader.get("TriggerRepeatInterval", _length, None)
    times = reader.get("TriggerRepeatCount", whole(-1, meaning=" (-1: for ever)"), None if count is not None else -1)
    if times is None or (interval is not None and length is None):
        return []
    where = interval or count
    assert where is not None
    if interval is None and times != 0:
        reader.report(where, "repeats without TriggerRepeatInterval: expected how long to wait between two fire times")
        return []
    try:
        trigger: Trigger = SimpleTrigger(length or 0, times)
    except InvalidTrigger as error:
        reader.report(where, str(error))
        return []
    return [TriggerSpec("TriggerRepeatInterval", interval.value if interval is not None else "", trigger)]


def _fingerprint(reader: Reader) -> str:
    """Identifies where the grid lies: equal text, equal grid."""
    said = [f"{key}={option.value}" for key in FINGERPRINT_KEYS for option in reader.all(key)]
    return sha256("\n".join(said).encode("utf-8", "surrogateescape")).hexdigest()[:16]


# -- values ------------------------------------------------------------------------------------------------------------


def _retry(reader: Reader) -> Retry | None:
    key = "TimeBetweenAttempts"
    if reader.last(key) is None and reader.last("TimeBeetweenAttempts") is not None:
        key = "TimeBeetweenAttempts"
    attempts = reader.get("MaxAttempts", whole(1, 1_000_000), None)
    delay = reader.get(key, _length, 0)
    backoff = cast("Backoff", reader.get("RetryBackoff", one_of("constant", "exponential"), "constant"))
    longest = reader.get("MaxTimeBetweenAttempts", _length, None)
    if attempts is None:
        for lone in (key, "RetryBackoff", "MaxTimeBetweenAttempts"):
            option = reader.last(lone)
            if option is not None:
                reader.report(option, "does nothing without MaxAttempts, which is 1 by default", "warning")
        return None
    return Retry(attempts, delay, backoff, longest)


def _job_store(reader: Reader) -> str:
    """Which kind of store the unit expects. The embedded one needs no word; a daemon with another runs it all the same."""
    option = reader.last("JobStore")
    if option is None:
        return ""
    if option.value != "sqlite":
        reader.report(option, f"expects the {option.value} store; a daemon with another one runs the unit all the same", "warning")
    return option.value


def _length(text: str) -> Micros:
    length = parse_duration(text)
    if length is None:
        raise InvalidValue(f"{text!r}: expected a finite length of time, like 10000 (ms), 10s, 5min 20s or PT10S")
    return length


def _positive(text: str) -> Micros:
    length = _length(text)
    if length <= 0:
        raise InvalidValue(f"{text!r}: expected more than zero")
    return length


def _moment(text: str) -> Instant:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        moment = None
    if moment is None or moment.tzinfo is None:
        raise InvalidValue(f"{text!r}: expected an RFC 3339 time with an offset, like 2030-01-01T00:00:00Z")
    return to_instant(moment)


def _policy(text: str) -> MisfirePolicy:
    policy = _POLICIES.get(text.removeprefix(_PREFIX))
    if policy is None:
        raise InvalidValue(f"{text!r}: expected one of {', '.join(_POLICIES)} (with or without {_PREFIX})")
    return policy


def _url(text: str) -> str:
    if not text.startswith(("http://", "https://", "file:///")):
        raise InvalidValue(f"{text!r}: expected an http://, https:// or file:/// URL")
    return text


def _sha256(text: str) -> str:
    if not _SHA256.fullmatch(text):
        raise InvalidValue(f"{text!r}: expected the 64 hex digits of a SHA-256")
    return text.lower()
