"""systemd's keys against what systemd 252 was measured to make of them."""

import json
import os
from pathlib import Path

import pytest

from xchronos.unitfile.directives import check
from xchronos.unitfile.names import UnitName
from xchronos.unitfile.specifiers import HostFacts

HERE = Path(__file__).parent
SAMPLES = Path(os.environ.get("XCHRONOS_CONFORMANCE") or HERE.parent / "conformance")
UNIT = UnitName.parse("v.service")

VALUES = json.loads((SAMPLES / "values.json").read_text())
MEASURED = json.loads((HERE / "directives_measured.json").read_text())["cases"]

# Where a judgement differs from the measured one on purpose, or cannot be the same.
DIFFERENT = {
    ("Service", "RebootArgument", "é"): "[Unit] refuses what [Service] lets through; one rule for both",
    ("Service", "SupplementaryGroups", "a\\x"): "a backslash in a group's name is kept, as it is in User=",
    ("Service", "NUMAMask", "%i"): "systemd does not expand specifiers in this one list of numbers",
    ("Service", "StandardInputText", "a\\x"): "no step has a standard input: the text is not decoded",
    ("Service", "BindPaths", "x:/y"): "systemd binds /y after dropping the source: not what anybody wrote",
    ("Service", "BindReadOnlyPaths", "x:/y"): "the same",
    ("Service", "SELinuxContext", "%i"): "an empty label is none",
    ("Service", "AppArmorProfile", "%i"): "an empty label is none",
    ("Service", "SmackProcessLabel", "%i"): "an empty label is none",
    ("Service", "IPIngressFilterPath", "%i"): "an empty path is none",
    ("Service", "IPEgressFilterPath", "%i"): "an empty path is none",
    ("Service", "AmbientCapabilities", "63"): "there is no capability 63",
    ("Service", "LoadCredential", "é"): "credentials are not loaded: only the shape is judged",
    ("Service", "LoadCredentialEncrypted", "é"): "credentials are not loaded: only the shape is judged",
}
ENCRYPTED = "SetCredentialEncrypted"  # Its data is not decoded.
TERMINAL = "TTYPath"  # systemd also shows the terminal's other settings, all default.


def outcome_of(case):
    verdict = check(
        case["section"],
        case["key"],
        case["value"],
        name=UNIT,
        host=HostFacts(),
        service_type=case.get("type", ""),
        version=252,
    )
    return verdict.outcome, list(verdict.effect)


@pytest.mark.parametrize("case", VALUES, ids=lambda case: case["id"])
def test_conformance_values(case):
    effect = case["effect"]
    if any(line.endswith("%") for line in outcome_of(case)[1]) and case["value"].endswith("%"):
        # A share of the machine's memory or tasks: only the machine knows the number.
        assert outcome_of(case)[0] == case["outcome"]
        return
    # Masks are bookkeeping of the cgroup tree, not settings.
    effect = [line for line in effect if not line.startswith("CGroup ")]
    assert outcome_of(case) == (case["outcome"], effect)


@pytest.mark.parametrize(("section", "key"), [(s, k) for s, keys in MEASURED.items() for k in keys])
def test_measured(section, key):
    for value, outcome, effect, *service_type in MEASURED[section][key]:
        if (section, key, value) in DIFFERENT or key == ENCRYPTED:
            continue
        case = {"section": section, "key": key, "value": value, "type": "".join(service_type)}
        judged, lines = outcome_of(case)
        shown = lines if key != TERMINAL else lines[:1]
        expected = effect if key != TERMINAL else effect[:1]
        assert (judged, sorted(shown)) == (outcome, sorted(expected)), value


def test_every_difference_is_one():
    """A difference that is none any more has to leave the list."""
    for section, key, value in DIFFERENT:
        rows = [row for row in MEASURED[section][key] if row[0] == value]
        for _, outcome, effect, *_ in rows:
            judged = outcome_of({"section": section, "key": key, "value": value})
            assert judged != (outcome, effect), (section, key, value)
