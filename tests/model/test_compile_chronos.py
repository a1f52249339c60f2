"""[X-Chronos], key by key: what is good, what is bad, and where the border lies."""

import re

import pytest

from tests.model.compile_helpers import RUN, chronos, refused, warnings
from xchronos.clock import DAY, HOUR, MILLISECOND, MINUTE, SECOND
from xchronos.model.compile.chronos import CHRONOS_KEYS
from xchronos.model.compile.options import _OWN_WORDS
from xchronos.model.compile.unit import compile_unit
from xchronos.model.policies import MisfirePolicy, Retry

CRON = "TriggerCron=0 0 * * *"
NEW_YEAR = 1_893_456_000 * SECOND

GOOD = [
    ("TriggerStartDelay=10000", "start_delay", 10 * SECOND),
    ("TriggerStartDelay=10s", "start_delay", 10 * SECOND),
    ("TriggerStartDelay=PT10S", "start_delay", 10 * SECOND),
    ("TriggerStartDelay=5min 20s", "start_delay", 320 * SECOND),
    ("TriggerStartDelay=0", "start_delay", 0),
    ("TriggerStartDelay=1.5", "start_delay", 1_500),
    ("TimeZone=Europe/Berlin", "time_zone", "Europe/Berlin"),
    ("TimeZone=UTC", "time_zone", "UTC"),
    ("TimeZone=", "time_zone", "UTC"),
    ("NotBefore=2030-01-01T00:00:00Z", "not_before", NEW_YEAR),
    ("NotBefore=2030-01-01T01:00:00+01:00", "not_before", NEW_YEAR),
    ("NotBefore=1893456000", "not_before", NEW_YEAR),
    ("NotAfter=2030-01-01 00:00:00Z", "not_after", NEW_YEAR),
    ("MaxRuns=1", "max_runs", 1),
    ("MaxRuns=2147483647", "max_runs", 2**31 - 1),
    ("TTL=1", "ttl", MILLISECOND),
    ("TTL=P1D", "ttl", DAY),
    ("TTL=infinity", "ttl", None),
    ("RandomizedDelay=1h", "randomized_delay", HOUR),
    ("StartDeadline=5min", "start_deadline", 5 * MINUTE),
    ("StartDeadline=0", "start_deadline", 0),
    ("StartDeadline=infinity", "start_deadline", None),
    ("Concurrency=allow", "concurrency", "allow"),
    ("Concurrency=forbid", "concurrency", "forbid"),
    ("Concurrency=replace", "concurrency", "replace"),
    ("Concurrency=queue", "concurrency", "queue"),
    ("MaxAttempts=1", "retry", Retry(1)),
    ("MaxAttempts=+3", "retry", Retry(3)),
    ("MaxAttempts=1000000", "retry", Retry(1_000_000)),
    ("MaxAttempts=3\nTimeBetweenAttempts=10000", "retry", Retry(3, 10 * SECOND)),
    ("MaxAttempts=3\nTimeBeetweenAttempts=10000", "retry", Retry(3, 10 * SECOND)),
    ("MaxAttempts=3\nTimeBeetweenAttempts=1\nTimeBetweenAttempts=2", "retry", Retry(3, 2 * MILLISECOND)),
    (
        "MaxAttempts=3\nTimeBetweenAttempts=1s\nRetryBackoff=exponential\nMaxTimeBetweenAttempts=1min",
        "retry",
        Retry(3, SECOND, "exponential", MINUTE),
    ),
    ("Availability=1", "availability", 1),
    ("Availability=10000", "availability", 10_000),
    ("LoadBalancing=workload", "load_balancing", "workload"),
    ("LoadBalancing=random", "load_balancing", "random"),
    ("LoadBalancing=round-robin", "load_balancing", "round-robin"),
    ("Priority=-1000000", "priority", -1_000_000),
    ("Priority=+7", "priority", 7),
    ("OnPartition=stop", "on_partition", "stop"),
    ("OnPartition=continue", "on_partition", "continue"),
    ("", "on_partition", "continue"),
    ("Concurrency=forbid", "on_partition", "stop"),
    ("Concurrency=replace", "on_partition", "stop"),
    ("Concurrency=queue", "on_partition", "continue"),
    ("Concurrency=forbid\nOnPartition=continue", "on_partition", "continue"),
    ("Executor=process", "executor", "process"),
    ("Executor=http", "executor", "http"),
    ("Executor=python", "executor", "python"),
    ("", "executor", "process"),
    ("Artifact=https://x.org/%p/100%%.tgz", "artifact", "https://x.org/a/100%.tgz"),
    ("Artifact=http://x", "artifact", "http://x"),
    ("Artifact=file:///x", "artifact", "file:///x"),
    ("Artifact=http://x\nArtifactSHA256=" + "Ab" * 32, "artifact_sha256", "ab" * 32),
    ('Payload={"unit": "%n", "share": "5%%"}', "payload", '{"unit": "a.service", "share": "5%"}'),
    ("Payload=100% sure", "payload", "100% sure"),
    ("HistoryLimit=1", "history_limit", 1),
    ("HistoryLimit=100000", "history_limit", 100_000),
    ("JobStore=sqlite", "job_store", "sqlite"),
    ("JobStore=etcd (*)", "job_store", "etcd"),
    ("MaxAttempts=7\nMaxAttempts=", "retry", Retry()),
]

BAD = [
    ("TriggerStartDelay=-1", "negative"),
    ("TriggerStartDelay=infinity", "expected a finite length of time, like 10000 (ms), 10s, 5min 20s or PT10S"),
    ("TriggerStartDelay=soon", "does not parse"),
    ("TriggerRepeatInterval=0", "the repeat interval is 0, yet the trigger shall repeat for ever"),
    ("TriggerRepeatInterval=0.5", "expected at least 1 ms"),
    ("TriggerRepeatInterval=x", "does not parse"),
    ("TriggerRepeatInterval=1000\nTriggerRepeatCount=-2", "out of range: expected -1 to 2147483647 (-1: for ever"),
    ("TriggerRepeatInterval=1000\nTriggerRepeatCount=many", "'many' is not a whole number"),
    ("TriggerRepeatCount=3", "repeats without TriggerRepeatInterval"),
    ("TriggerRepeatInterval=P1M", "years and months have no fixed length"),
    ("TriggerCron=* * *", "found 3"),
    ("TriggerCron=TZ= * * * * *", "cron expression"),
    ("TriggerCron=CRON_TZ=Nowhere 0 0 * * *", "unknown time zone 'Nowhere'"),
    ("TriggerISO8601=R5/2030", "2030"),
    ("TriggerAt=2030-01-01T00:00:00", "has no offset"),
    ("TriggerCalendar=someday", "someday"),
    ("TriggerClass=no_such_module_at_all:X", "cannot import"),
    ("TimeZone=Europe/Berlinn", "did you mean 'Europe/Berlin'?"),
    ("NotBefore=tomorrow", "expected RFC 3339 with an offset"),
    ("NotBefore=2030-01-02T00:00:00Z\nNotAfter=2030-01-01T00:00:00Z", "lies before NotBefore"),
    ("MaxRuns=0", "expected 1 to 2147483647"),
    ("MaxRuns=1.5", "'1.5' is not a whole number"),
    ("MaxRuns=" + "9" * 5000, "out of range"),
    ("MaxRuns=\u0663", "is not a whole number"),
    ("TTL=0", "expected more than zero"),
    ("RandomizedDelay=infinity", "expected a finite length"),
    ("MisfirePolicy=LATER", "expected one of SMART_POLICY, FIRE_NOW"),
    ("MisfireThreshold=1x", "does not parse"),
    ("MisfireLimit=10001", "expected 1 to 10000"),
    ("StartDeadline=-5", "negative"),
    ("Concurrency=Forbid", "'Forbid': expected one of allow, forbid, replace, queue"),
    ("MaxAttempts=0", "expected 1 to 1000000"),
    ("MaxAttempts=3\nRetryBackoff=linear", "expected one of constant, exponential"),
    ("Availability=0", "expected 1 to 10000"),
    ("LoadBalancing=roundrobin", "expected one of workload, random, round-robin"),
    ("Priority=1000001", "expected -1000000 to 1000000"),
    ("OnPartition=wait", "expected one of continue, stop"),
    ("Executor=shell", "expected one of docker, process, http, python"),
    ("Executor=docker", "nothing runs in Docker: expected a [Container] with Image=, or docker command lines"),
    ("Artifact=ftp://x", "expected an http://, https:// or file:/// URL"),
    ("Artifact=ftp://me:pass@x/y?sig=1", "'ftp://...@x/y?sig=...': expected an http://"),
    ("Artifact=http://x/a%20b", "write %%2"),
    ("Artifact=http://x/%H", "speaks of the machine"),
    ("ArtifactSHA256=abc", "expected the 64 hex digits of a SHA-256"),
    ("Payload=%Q", "unknown specifier %Q"),
    ("HistoryLimit=0", "expected 1 to 100000"),
    ("TriggerCrn=* * * * *", "unknown key, did you mean TriggerCron?"),
    ("MaxAttempt=3", "unknown key, did you mean MaxAttempts?"),
    ("Nonsense=3", "unknown key"),
    # A near name of this section counts more than the very name in another one.
    ("Timezone=Asia/Tokyo", "unknown key, did you mean TimeZone?"),
    ("TZ=Asia/Tokyo", "unknown key, did you mean TimeZone?"),
    ("OnCalendar=daily", "unknown key, did you mean TriggerCalendar?"),
    ("Schedule=@daily", "unknown key, did you mean TriggerCron?"),
    ("cron=@daily", "unknown key, did you mean TriggerCron?"),
    ("Trigger=@daily", "unknown key, did you mean TriggerCron, TriggerCalendar,"),
    ("Persistent=true", "unknown key, did you mean MisfirePolicy?"),
    ("Image=busybox", "Image is no key of [X-Chronos]: expected it in [Container]"),
    ("MachineMetadata=a=b", "MachineMetadata is no key of [X-Chronos]: expected it in [X-Fleet]"),
    ("ExecStart=/bin/x", "expected it in [Service]"),
]

WARNED = [
    ("JobStore=etcd", "expects the etcd store; a daemon with another one runs the unit all the same"),
    ("MaxAttempts=3 (*)", "the footnote mark (*) is not part of the value: dropped"),
    ("TriggerCron= 0 * 1 * * * (*)", "the footnote mark (*)"),
    ("MaxRuns=3", "does nothing in a unit without a trigger"),
    ("TimeBetweenAttempts=3", "does nothing without MaxAttempts"),
    ("RetryBackoff=exponential", "does nothing without MaxAttempts"),
    ("MaxAttempts=2\nTimeBetweenAttempts=1\nTimeBeetweenAttempts=1", "the same key"),
    ("MaxAttempts=2\nMaxTimeBetweenAttempts=1", "does nothing without RetryBackoff=exponential"),
    ("MaxAttempts=2\nRetryBackoff=exponential", "doubles a TimeBetweenAttempts of 0"),
    ("ArtifactSHA256=" + "a" * 64, "does nothing without Artifact"),
    ("Executor=http", "no machine of this version runs the http executor"),
    ("Concurrency=forbid\nOnPartition=continue", "Concurrency=forbid cannot keep the next one"),
    ("TriggerCron=0 0 0 30 2 *", "never"),
    ("TimeZone=Asia/Tokyo\nTriggerCron=TZ=Europe/Berlin 0 0 * * *", "TZ=Europe/Berlin counts here, not TimeZone="),
]


@pytest.mark.parametrize(("lines", "field", "value"), GOOD)
def test_good(lines, field, value):
    assert getattr(chronos(lines), field) == value


@pytest.mark.parametrize(("lines", "part"), BAD)
def test_bad(lines, part):
    found = refused(f"{RUN}[X-Chronos]\n{lines}\n")
    assert len([problem for problem in found if "warning: " not in problem]) == 1
    place = f"a.service:{3 + len(lines.splitlines())}: [X-Chronos] "
    assert any(part in problem and problem.startswith(place) for problem in found), found


def test_words_of_others_lead_to_keys():
    words = {word.strip() for words in _OWN_WORDS.values() for word in re.split(r",| or ", words)}
    assert words <= CHRONOS_KEYS


@pytest.mark.parametrize(("lines", "part"), WARNED)
def test_warned(lines, part):
    (warning,) = warnings(chronos(lines))
    assert part in warning
    assert warning.startswith("a.service:")


@pytest.mark.parametrize("policy", MisfirePolicy)
@pytest.mark.parametrize("prefix", ["", "MISFIRE_INSTRUCTION_"])
def test_misfire_policies(policy, prefix):
    unit = chronos(CRON, f"MisfirePolicy={prefix}{policy.value}", "MisfireThreshold=1s", "MisfireLimit=7")
    assert (unit.misfire.policy, unit.misfire.threshold, unit.misfire.limit) == (policy, SECOND, 7)


class TestTriggers:
    def test_all_kinds_are_one_union(self):
        unit = chronos(
            "TriggerRepeatInterval=2000", "TriggerRepeatCount=4", "TriggerCron=@daily", "TriggerCron=@every 5s",
            "TriggerISO8601=R2/2030-01-01T00:00:00Z/PT1H", "TriggerAt=1893456000", "TriggerCalendar=weekly",
            "TriggerAt=1893456001",
        )  # fmt: skip
        kinds = [spec.trigger.kind for spec in unit.triggers]
        assert kinds == ["simple", "cron", "every", "iso8601", "at", "at", "calendar"]
        assert unit.triggers[0].trigger.count == 5

    @pytest.mark.parametrize(
        ("lines", "expected"),
        [
            ("TriggerStartDelay=5s", ("TriggerStartDelay", "5s", 1)),
            ("TriggerRepeatCount=0", ("TriggerRepeatInterval", "", 1)),
            ("TriggerRepeatInterval=1s", ("TriggerRepeatInterval", "1s", None)),
            ("TriggerRepeatInterval=0\nTriggerRepeatCount=0", ("TriggerRepeatInterval", "0", 1)),
        ],
    )
    def test_simple(self, lines, expected):
        (spec,) = chronos(lines).triggers
        assert (spec.key, spec.text, spec.trigger.count) == expected

    def test_a_delay_beside_another_trigger_makes_none_of_its_own(self):
        unit = chronos("TriggerStartDelay=5s", CRON)
        assert [spec.key for spec in unit.triggers] == ["TriggerCron"]
        assert unit.start_delay == 5 * SECOND

    def test_an_empty_assignment_resets_a_list(self):
        unit = chronos("TriggerCron=@daily", "TriggerCron=", "TriggerCron=@hourly (*)")
        assert [spec.text for spec in unit.triggers] == ["@hourly"]

    def test_an_offset_keeps_its_wall_clock_only_without_a_zone(self):
        start = "TriggerISO8601=R/2030-03-30T09:00:00+01:00/P1D"
        (loose,), (zoned,) = chronos(start).triggers, chronos("TimeZone=Europe/Berlin", start).triggers
        first = 1_901_088_000 * SECOND
        assert loose.trigger.next_after(first - 1, 0) == zoned.trigger.next_after(first - 1, 0) == first
        assert loose.trigger.next_after(first, 0) == first + DAY
        assert zoned.trigger.next_after(first, 0) == first + DAY - HOUR

    def test_a_zone_in_front_of_cron_equals_time_zone(self):
        (prefixed,), (keyed,) = (
            chronos(*lines).triggers
            for lines in (
                ["TriggerCron=CRON_TZ=Asia/Tokyo 0 9 * * *"],
                ["TimeZone=Asia/Tokyo", "TriggerCron=0 9 * * *"],
            )
        )
        assert prefixed.trigger.next_after(0, 0) == keyed.trigger.next_after(0, 0) == DAY

    def test_the_same_zone_twice_is_fine(self):
        assert warnings(chronos("TimeZone=Asia/Tokyo", "TriggerCron=TZ=Asia/Tokyo 0 9 * * *")) == []

    def test_hashed_values_come_from_the_name(self):
        one, same, other = (
            chronos("TriggerCron=H H * * *", name=f"{name}.service").triggers[0].trigger.next_after(0, 0)
            for name in ("a", "a", "b")
        )
        assert one == same != other


class TestFingerprint:
    BASE = ("TriggerCron=@daily", "TriggerRepeatInterval=5s")

    @pytest.mark.parametrize(
        "more",
        ["MaxAttempts=3", "Payload=x", "MisfirePolicy=FIRE_NOW", "RandomizedDelay=1", "TriggerRepeatInterval=5s"],
    )
    def test_stays(self, more):
        assert chronos(*self.BASE, more).fingerprint == chronos(*self.BASE).fingerprint

    @pytest.mark.parametrize(
        "more",
        ["TriggerCron=@hourly", "TriggerRepeatInterval=6s", "TriggerRepeatCount=3", "TriggerStartDelay=1",
         "TimeZone=Asia/Tokyo", "TriggerAt=1893456000", "TriggerCron="],
    )  # fmt: skip
    def test_changes(self, more):
        assert chronos(*self.BASE, more).fingerprint != chronos(*self.BASE).fingerprint

    def test_a_footnote_mark_changes_nothing(self):
        assert chronos("TriggerCron=@daily (*)").fingerprint == chronos("TriggerCron=@daily").fingerprint


def test_payload_and_artifact_speak_of_the_instance():
    text = f"{RUN}[X-Chronos]\nPayload=%i of %N\nArtifact=https://x.org/%I.tar\n"
    unit = compile_unit("report@eu-west.service", text)
    assert (unit.payload, unit.artifact) == ("eu-west of report@eu-west", "https://x.org/eu/west.tar")


def test_which_store_is_expected_is_a_warning_where_it_is_another():
    unit = chronos("JobStore=etcd (*)", "MaxRuns=3")
    assert [problem.message[:20] for problem in unit.warnings_on("sqlite")] == [
        "expects the etcd sto", "the footnote mark (*", "does nothing in a un"
    ]  # fmt: skip
    assert [problem.message[:20] for problem in unit.warnings_on("etcd")] == [
        "the footnote mark (*", "does nothing in a un"
    ]  # fmt: skip
    assert chronos("JobStore=sqlite").warnings_on("sqlite") == ()
    assert len(chronos("JobStore=sqlite").warnings_on("etcd")) == 1
    assert chronos("JobStore=").warnings_on("etcd") == ()
