"""What 89caaa6 could not read needs a level of its own: `level_1_keys.json` is every key that it acted upon."""

import json

import pytest

from tests.compatibility.old_data import FIXTURES
from xchronos.dockercli.quadlet.container import CONTAINER_KEYS
from xchronos.model.compile.chronos import CHRONOS_KEYS
from xchronos.model.compile.unit import parse_unit
from xchronos.model.features import FEATURES, LEVEL, LEVELS, needed
from xchronos.unitfile.directives import meaning
from xchronos.unitfile.directives.table import SECTIONS
from xchronos.unitfile.fleet.requirements import FLEET_KEYS

LEVEL_1 = {
    section: frozenset(keys) for section, keys in json.loads((FIXTURES / "level_1_keys.json").read_text()).items()
}
NOW = {
    "X-Chronos": CHRONOS_KEYS,
    "X-Fleet": frozenset(FLEET_KEYS),
    "Container": frozenset(CONTAINER_KEYS),
    **{
        section: frozenset(key for key in keys if meaning(section, key) != "ignored")
        for section, keys in SECTIONS.items()
    },
}


@pytest.mark.parametrize("section", NOW)
def test_every_key_has_its_level(section: str) -> None:
    told = {key for feature in FEATURES if feature.section == section and not feature.value for key in feature.keys}
    without = NOW[section] - LEVEL_1[section] - told
    assert not without, f"[{section}] {sorted(without)}: an older xchronos does not read them; see model/features.py"


def test_levels_are_told_of_and_none_is_above_the_programs_own() -> None:
    assert set(LEVELS) == set(range(1, LEVEL + 1))
    assert {feature.since for feature in FEATURES} <= set(range(2, LEVEL + 1))


@pytest.mark.parametrize("feature", FEATURES, ids=lambda feature: feature.section + feature.value)
def test_a_key_of_an_old_file_needs_its_level_only_by_the_values_that_are_new(feature) -> None:
    for key in feature.keys & LEVEL_1[feature.section]:
        assert feature.value, f"{key} was read at level 1"
        assert needed(parse_unit("a.service", f"[{feature.section}]\n{key}=/bin/true\n")).level == 1
