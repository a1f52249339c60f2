"""What of a unit file an older xchronos cannot read: the feature level that a unit needs, and what a daemon reads.

Every scheduler and every machine says in its record what it reads (`records.Reading`). A unit is taken in only when all
living schedulers read it, and placed only on machines that do. Level 1 is what daemons read whose records say nothing;
a unit that uses nothing newer needs no more than that, whichever version takes it in.

Whoever adds a key, or lets a key have a value that was an error or had no effect before, adds a line to `FEATURES`, at
the level `LEVEL`, and raises that with the first such line after a release. `test_every_key_has_its_level` finds a key
that has none.
"""

import re
from functools import lru_cache
from typing import NamedTuple

from xchronos import __version__
from xchronos.dockercli.quadlet.draft import Form, Rule
from xchronos.dockercli.quadlet.keys import KEY_RULES
from xchronos.model.records import Reading
from xchronos.model.unit import TriggerSpec, Unit
from xchronos.triggers.zone_baseline import BASELINE_ZONES
from xchronos.triggers.zones import ZoneDatabase, database, utc
from xchronos.unitfile import UnitFile

LEVEL = 2
"""The feature level of this program. Each level includes those below it."""

LEVELS: dict[int, str] = {
    1: "what the first records said nothing about",
    2: "units that a daemon cannot read are handed on, and fire times are computed anew when zone rules change",
}
"""What each level is about, for people. What unit files may say since then is in `FEATURES`."""


class Feature(NamedTuple):
    """Something that unit files may say since some level."""

    since: int
    """The first level that reads it."""

    section: str
    """The section of the key: `Service`."""

    keys: frozenset[str]
    """The keys that it is about."""

    value: str = ""
    """A regular expression that begins where the value begins. Empty: every value of the key needs the level."""


_COMMANDS = frozenset(
    ("ExecCondition", "ExecStartPre", "ExecStart", "ExecStartPost", "ExecReload", "ExecStop", "ExecStopPost")
)
_NEWLY_UNQUOTED = frozenset(
    key for key, rule in KEY_RULES.items() if isinstance(rule, Rule) and rule.form is Form.TEXT
) | {"AddDevice", "EnvironmentFile", "LogOpt", "Mask", "Mount", "Secret", "Unmask"}
"""The keys of [Container] whose quotes the first level took for a part of the value."""

_NUMBER = r"(?:-m|--(?:memory|memory-swap|memory-reservation|shm-size|kernel-memory))[\s=]*"
_LATER_FORMS = (
    rf"{_NUMBER}(?:[.+]|[0-9]+\.[a-zA-Z]|[0-9.]+[eE])|on-failure:(?:\s|\Z)|[\s=][0-9a-fA-F]*:[0-9a-fA-F:]*:[0-9]*:[0-9]"
)

FEATURES: tuple[Feature, ...] = (
    Feature(2, "Service", frozenset(("RestartSteps", "RestartMaxDelaySec"))),
    Feature(
        2,
        "Unit",
        frozenset(
            f"{prefix}{name}"
            for prefix in ("Condition", "Assert")
            for name in ("PathIsSocket", "Architecture", "CPUs", "Memory", "KernelCommandLine", "KernelModuleLoaded")
        ),
    ),
    Feature(
        2,
        "Service",
        _COMMANDS,
        # The prefixes may stand in quotes, and after the `;` that ends another command.
        r"(?:.*\s;\s+)?[-@:+!\"']*\|",
    ),
    # Variables of [Service]; before, these values were taken as they are written.
    Feature(2, "Container", frozenset(KEY_RULES), r"""(?s).*(?:\$\{[A-Za-z_]|\$\$|(?<![^\s"'])\$[A-Za-z_])"""),
    Feature(2, "Container", frozenset(("HealthCmd",)), r"""(?i)["[]*(?:CMD|CMD-SHELL)["\s]"""),
    # Before, the quotes were part of the value, and an empty entry point was the image's.
    Feature(2, "Container", _NEWLY_UNQUOTED, r"""(?s)".*"\Z"""),
    Feature(2, "Container", frozenset(("Entrypoint",)), r"\Z"),
    # Numbers, policies and addresses that the docker client 20.10 refuses, and later ones take; and templates.
    Feature(2, "Service", _COMMANDS, rf"(?s).*docker\s.*(?:{_LATER_FORMS})"),
    Feature(2, "Service", _COMMANDS, r"(?s).*docker\s+(?:\w+\s+)?(?:inspect|info|version)\s(?:.*\s)?(?:-f|--format)"),
    Feature(2, "Container", frozenset(("Memory", "MemorySwap", "ShmSize")), r"[.+]|[0-9]+\.[a-zA-Z]|[0-9.]+[eE]"),
    Feature(2, "Container", frozenset(("PodmanArgs",)), rf"(?s).*(?:{_LATER_FORMS})"),
    Feature(2, "Container", frozenset(("PublishPort",)), r"[0-9a-fA-F]*:[0-9a-fA-F]*:.*:"),
)
"""Everything above level 1."""

_BY_KEY = {
    (section, key): [one for one in FEATURES if one.section == section and key in one.keys]
    for section, key in sorted({(feature.section, key) for feature in FEATURES for key in feature.keys})
}


class Need(NamedTuple):
    """What a unit needs of its readers beyond level 1."""

    level: int
    """The feature level."""

    because: tuple[str, ...]
    """What needs it, as people read it: `RestartSteps=`."""


def needed(file: UnitFile) -> Need:
    """The level that a file needs, drop-ins included, from the keys and values that it uses."""
    level, because = 1, []
    for option in file.options:
        for feature in _BY_KEY.get((option.section, option.name), ()):
            if re.match(feature.value, option.value):
                level = max(level, feature.since)
                because.append(f"{option.name}={option.value}" if feature.value else f"{option.name}=")
    return Need(level, tuple(dict.fromkeys(because)))


def zones_used(triggers: tuple[TriggerSpec, ...], time_zone: str) -> tuple[dict[str, str], tuple[str, ...]]:
    """By name, the digest of the rules of each zone that the triggers' fire times depend on, and the zones named.

    A unit may name a zone that no trigger asks: it has to exist, and its rules do not matter.
    """
    rules: dict[str, str] = {}
    for spec in triggers:
        place = getattr(spec.trigger, "zone", None)
        if place is not None and place.rules:
            rules[place.name] = place.rules
    return rules, tuple(sorted({*rules, time_zone} - {utc.name}))


def rules_text(rules: dict[str, str]) -> str:
    """The digests as a cursor keeps them: `Europe/Berlin=0123456789ab`. `-` says that there are none."""
    return " ".join(f"{name}={digest}" for name, digest in sorted(rules.items())) or NO_RULES


NO_RULES = "-"
"""What a cursor says whose fire times depend on the rules of no zone."""


def rules_hold(text: str) -> bool:
    """Whether a cursor that says `text` of its rules holds by the rules that there are here.

    A cursor that says nothing was written by a version that did not know of it: nobody knows by which rules.
    """
    return text == NO_RULES or (bool(text) and _holds(database(), text))


@lru_cache(maxsize=1024)
def _holds(zones: ZoneDatabase, text: str) -> bool:
    pairs = (pair.partition("=") for pair in text.split())
    return all(name in zones.names and zones.zone(name).rules == digest for name, _, digest in pairs)


@lru_cache(maxsize=8)
def reading_of(zones: ZoneDatabase) -> Reading:
    """What this program reads with a release of the zones' rules."""
    return Reading(
        level=LEVEL,
        version=__version__,
        rules=zones.version,
        more_zones=tuple(sorted(zones.names - BASELINE_ZONES)),
        fewer_zones=tuple(sorted(BASELINE_ZONES - zones.names)),
    )


def own_reading() -> Reading:
    """What this process reads."""
    return reading_of(database())


def unread(reading: Reading, unit: Unit) -> tuple[str, ...]:
    """What of a unit a daemon with this reading cannot read, as people read it; empty when it reads all of it."""
    lacking = [f"the time zone {name}" for name in unit.zones if not has_zone(reading, name)]
    if unit.level > reading.level:
        lacking[:0] = unit.level_because
    return tuple(lacking)


def has_zone(reading: Reading, name: str) -> bool:
    """Whether a daemon knows a zone."""
    return name not in reading.fewer_zones if name in BASELINE_ZONES else name in reading.more_zones
