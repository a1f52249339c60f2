"""Every key that xchronos owns, as data. The README's reference of the file format is generated from it."""

from typing import NamedTuple

from xchronos.dockercli.quadlet.keys import ERRORS, KEY_RULES, WARNINGS


class Key(NamedTuple):
    """One key: the form of its value, the default if it is absent, and its meaning in one sentence."""

    name: str
    value: str
    default: str
    meaning: str


_LENGTH = "length"

CHRONOS: tuple[tuple[str, tuple[Key, ...]], ...] = (
    (
        "When",
        (
            Key(
                "TriggerCron",
                "cron expression, repeatable",
                "",
                "Fires by a crontab of 5 fields, or of 6 or 7 that begin with seconds, by `@daily` and its like, or "
                "`@every 90s`; `TZ=Zone` may stand in front.",
            ),
            Key(
                "TriggerCalendar",
                "calendar event, repeatable",
                "",
                "Fires by systemd's OnCalendar syntax, such as `Mon..Fri 09:00`.",
            ),
            Key(
                "TriggerISO8601",
                "recurrence, repeatable",
                "",
                "Fires by `R5/2030-01-01T00:00:00Z/PT10M`: n times (`R` alone: for ever) from the start on; an empty "
                "start is the unit's acceptance.",
            ),
            Key("TriggerAt", "RFC 3339 time or unix time, repeatable", "", "Fires once, at this instant."),
            Key(
                "TriggerClass",
                "`package.module:Class [argument ...]`, repeatable",
                "",
                "Fires when a class of your own says so, which every scheduler must have installed.",
            ),
            Key("TriggerRepeatInterval", _LENGTH, "", "Fires every so long, counted from the unit's acceptance."),
            Key(
                "TriggerRepeatCount",
                "whole number from -1",
                "-1",
                "How often the interval repeats: n fires 1 + n times in all, 0 once, -1 for ever.",
            ),
            Key(
                "TriggerStartDelay",
                _LENGTH,
                "0",
                "Shifts the beginning of every relative and cron trigger from the unit's acceptance; as the only "
                "trigger key it fires once.",
            ),
            Key("TimeZone", "IANA name", "UTC", "The zone in which cron, calendar and ISO 8601 triggers are meant."),
            Key("NotBefore", "RFC 3339 time or unix time", "", "Nothing fires before it."),
            Key("NotAfter", "RFC 3339 time or unix time", "", "Nothing fires after it."),
            Key(
                "MaxRuns",
                "whole number from 1",
                "no limit",
                "The unit is finished after so many fire times; not counted are those that were missed, and those that "
                "Concurrency=forbid skipped.",
            ),
            Key("TTL", f"{_LENGTH} or infinity", "infinity", "So long after its acceptance the unit is deleted."),
            Key(
                "RandomizedDelay",
                _LENGTH,
                "0",
                "Delays each start by up to so long, by a hash of unit and fire time, the same on every scheduler.",
            ),
        ),
    ),
    (
        "When late",
        (
            Key(
                "MisfirePolicy",
                "name of a policy",
                "SMART_POLICY",
                "What becomes of fire times that were missed; the prefix `MISFIRE_INSTRUCTION_` may be left out.",
            ),
            Key("MisfireThreshold", _LENGTH, "60s", "How late a fire time may be found before it counts as missed."),
            Key(
                "MisfireLimit", "1 to 10000", "100", "How many missed fire times `IGNORE_MISFIRE_POLICY` makes up for."
            ),
            Key(
                "StartDeadline",
                f"{_LENGTH} or infinity",
                "infinity",
                "How long an execution may wait for a suitable machine before it is missed.",
            ),
        ),
    ),
    (
        "Overlap and stubbornness",
        (
            Key(
                "Concurrency",
                "allow, forbid, replace or queue",
                "allow",
                "What happens to a fire time while an earlier execution of the unit is still active.",
            ),
            Key(
                "MaxAttempts",
                "whole number from 1",
                "1",
                "How often one fire time is tried; losing the machine is not counted.",
            ),
            Key("TimeBetweenAttempts", _LENGTH, "0", "The pause between two attempts."),
            Key(
                "TimeBeetweenAttempts",
                _LENGTH,
                "0",
                "An older name of TimeBetweenAttempts, as the first files spelt it.",
            ),
            Key(
                "RetryBackoff",
                "constant or exponential",
                "constant",
                "Whether the pause stays the same or doubles from attempt to attempt.",
            ),
            Key(
                "MaxTimeBetweenAttempts", f"{_LENGTH} or infinity", "1h", "The longest pause of an exponential backoff."
            ),
        ),
    ),
    (
        "Where",
        (
            Key(
                "Availability",
                "1 to 10000",
                "1",
                "On how many distinct machines each fire time runs, or the unit is kept running.",
            ),
            Key(
                "LoadBalancing",
                "workload, random or round-robin",
                "workload",
                "How one of several suitable machines is chosen.",
            ),
            Key("Priority", "-1000000 to 1000000", "0", "Among waiting executions the highest is placed first."),
            Key(
                "OnPartition",
                "continue or stop",
                "stop with Concurrency=forbid or replace, else continue",
                "On a machine that cannot reach the store: `stop` ends the attempt before another machine can start "
                "it, in an outage of the whole store too; `continue` lets it go on, and it may run twice.",
            ),
        ),
    ),
    (
        "What",
        (
            Key(
                "Executor",
                "docker, process, http or python",
                "docker with a [Container] or a docker command line, else process",
                "What runs the steps that are no docker command lines.",
            ),
            Key(
                "Artifact",
                "http://, https:// or file:/// URL",
                "",
                "A file fetched before the steps into the directory where they start without WorkingDirectory=, as it "
                "was published; `ExecStart=./name` runs it as a program; specifiers of the unit's name are filled in.",
            ),
            Key("ArtifactSHA256", "64 hex digits", "not checked", "The digest that the artifact must have."),
            Key(
                "Payload",
                "text",
                "",
                "Given to every step as `XCHRONOS_PAYLOAD`; specifiers of the unit's name are filled in, "
                "`%%` is a `%`.",
            ),
        ),
    ),
    (
        "Keeping",
        (
            Key("HistoryLimit", "1 to 100000", "100", "How many ended executions of the unit are kept."),
            Key("JobStore", "kind of store", "", "Which store the unit expects; another one is a warning."),
        ),
    ),
)
"""The keys of [X-Chronos], by subject."""

FLEET: tuple[Key, ...] = (
    Key("MachineID", "id, or its first 8 characters", "", "Only this machine."),
    Key("MachineOf", "unit name, repeatable", "", "Only a machine on which that unit is."),
    Key(
        "MachineMetadata",
        "`key=value`, several each in double quotes, repeatable",
        "",
        "Only machines with these metadata: one of the values of every key; `!= >= <= > <` compare "
        "numbers where both sides are one, else text (`1.10.0` is less than `1.9.0`).",
    ),
    Key("Conflicts", "globs of unit names, repeatable", "", "Not on a machine with such a unit."),
    Key("Replaces", "glob of unit names, repeatable", "", "Such units leave the machine when this one comes."),
    Key(
        "Global",
        "boolean",
        "false",
        "One copy on every machine that fits; of a start without triggers also on those that fit later, once.",
    ),
    Key("X-ConditionMachineID", "as MachineID", "", "An older name of MachineID."),
    Key("X-ConditionMachineBootID", "as MachineID", "", "An older name of MachineID."),
    Key("X-ConditionMachineOf", "as MachineOf", "", "An older name of MachineOf."),
    Key("X-ConditionMachineMetadata", "as MachineMetadata", "", "An older name of MachineMetadata."),
    Key("X-Conflicts", "as Conflicts", "", "An older name of Conflicts."),
)
"""The keys of [X-Fleet]."""

CONTAINER: tuple[tuple[str, tuple[str, ...]], ...] = (
    ("They become the container", tuple(sorted(KEY_RULES))),
    ("Accepted, with a warning, and without effect", tuple(sorted(WARNINGS))),
    ("Refused, because the engine cannot do it", tuple(sorted(ERRORS))),
)
"""The keys of [Container], by their effect. podman-systemd.unit(5) explains them."""


def reference_markdown() -> str:
    """The reference of the keys that xchronos owns, as Markdown. Its headings begin at the third level."""
    lines = [
        "### [X-Chronos]",
        "",
        "A length is milliseconds when it is a bare number; `10s`, `5min 20s` and `PT10S` are lengths as well.",
    ]
    for subject, keys in CHRONOS:
        lines += ["", f"#### {subject}", "", *_table(keys)]
    lines += ["", "### [X-Fleet]", "", *_table(FLEET), "", "### [Container]", ""]
    lines += [f"- {fate}: {', '.join(f'`{name}`' for name in names)}." for fate, names in CONTAINER]
    return "\n".join(lines) + "\n"


def _table(keys: tuple[Key, ...]) -> list[str]:
    rows = ["| key | value | default | meaning |", "|---|---|---|---|"]
    return rows + [f"| `{key.name}` | {key.value} | {key.default or 'none'} | {key.meaning} |" for key in keys]
