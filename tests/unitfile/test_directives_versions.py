"""systemd's keys and values that came after 252 or are gone, against what 252, 254, 257 and 262 make of them."""

import json
from pathlib import Path

import pytest

from xchronos.unitfile.directives import check, kinds, meaning
from xchronos.unitfile.directives.table import SECTIONS
from xchronos.unitfile.directives.versions import GONE, NEWEST, OLDEST, SINCE

MEASURED = json.loads((Path(__file__).parent / "directives_newer.json").read_text())
VERSIONS = (252, 254, 257, 262)
OUTCOMES = {"ok": "o", "warned": "w", "ignored": "i", "refused": "r"}

# Where a judgement differs from the measured one on purpose.
DIFFERENT = {
    ("RestartSteps", "5"): "without RestartMaxDelaySec=: the unit as a whole is judged elsewhere",
    ("RestartMaxDelaySec", "5"): "the same",
    ("RestartMaxDelaySec", "0"): "the same",
    ("RestartMaxDelaySec", "5s"): "the same",
    ("RestartMaxDelaySec", "512M"): "the same",
    ("RestartRandomizedDelaySec", "infinity"): "the same",
    ("DelegateSubgroup", "%Q"): "a specifier that does not exist is told, although systemd keeps it",
    ("ManagedOOMMemoryPressureDurationSec", "0"): "nobody watches the pressure: the bounds do not matter",
    ("ManagedOOMMemoryPressureDurationSec", "infinity"): "the same",
}


@pytest.mark.parametrize(("section", "key"), [(s, k) for s, keys in MEASURED["cases"].items() for k in keys])
def test_measured(section, key):
    for value, outcomes in MEASURED["cases"][section][key]:
        for version, expected in zip(VERSIONS, outcomes, strict=True):
            known = SINCE.get((section, key), OLDEST) <= version
            if (known and SECTIONS[section][key] is kinds.anything) or (key, value) in DIFFERENT:
                continue
            verdict = check(section, key, value, version=version)
            assert OUTCOMES[verdict.outcome] == expected, (key, value, version, verdict)


def test_every_key_of_every_version_is_measured():
    keys = {(section, key) for section, table in MEASURED["cases"].items() for key in table}
    wanted = {(section, key.replace("Assert", "Condition")) for section, key in (*SINCE, *GONE)}
    assert wanted <= keys


def test_a_version_is_named_for_what_it_does_not_know():
    assert check("Service", "RestartSteps", "5", version=252).message == (
        "RestartSteps= is known from systemd 254 on: systemd 252 ignores it"
    )
    assert check("Service", "RestartSteps", "5").outcome == "ok"
    assert check("Service", "PrivateTmp", "disconnected", version=256).message == (
        "'disconnected' is a value from systemd 257 on: systemd 256 ignores it"
    )
    assert check("Service", "ProtectHostname", "private", version=257).message.startswith("'private' is a value from")
    assert check("Service", "PrivateUsers", "managed", version=259).outcome == "ignored"
    assert check("Service", "PrivateUsers", "managed", version=260).effect == ("PrivateUsers: managed",)


def test_a_key_that_is_gone_names_its_successor():
    assert check("Service", "MemoryLimit", "1G", version=257).message.endswith("expected MemoryMax= instead")
    assert check("Service", "MemoryLimit", "1G").message == (
        "MemoryLimit= was dropped in systemd 258, which ignores it: expected MemoryMax= instead"
    )
    assert check("Service", "CPUAccounting", "yes").message.endswith("expected the line to go")


def test_every_version_is_one_that_units_can_be_judged_by():
    assert all(OLDEST < version <= NEWEST for version in SINCE.values())
    assert all(OLDEST < version <= NEWEST for version, _ in GONE.values())
    assert all(key in SECTIONS[section] for section, key in (*SINCE, *GONE))
    assert all(successor in SECTIONS["Service"] for _, successor in GONE.values() if successor)
    # What xchronos acts on stays in force whatever version judges, so it may be gone in a newer one.
    assert meaning("Service", "MemoryLimit") == "container"
