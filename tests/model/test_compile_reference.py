"""The reference of the file format covers exactly what the compiler knows."""

import re

from xchronos.dockercli.quadlet.container import CONTAINER_KEYS
from xchronos.model.compile.chronos import CHRONOS_KEYS
from xchronos.model.reference import CHRONOS, CONTAINER, FLEET, reference_markdown
from xchronos.unitfile.fleet.requirements import FLEET_KEYS


def test_every_key_is_there_once():
    names = [key.name for _, keys in CHRONOS for key in keys]
    assert sorted(names) == sorted(CHRONOS_KEYS)
    assert sorted(key.name for key in FLEET) == sorted(FLEET_KEYS)
    assert sorted(name for _, names in CONTAINER for name in names) == sorted(CONTAINER_KEYS)


def test_every_key_is_explained_in_a_sentence():
    for key in (*FLEET, *(key for _, keys in CHRONOS for key in keys)):
        assert key.meaning.endswith("."), key
        assert key.value, key
        assert "|" not in "".join(key), key


def test_markdown():
    text = reference_markdown()
    assert re.findall(r"^### (.*)$", text, re.MULTILINE) == ["[X-Chronos]", "[X-Fleet]", "[Container]"]
    rows = re.findall(r"^\| `([^`]+)` \|(?: [^|]+ \|){3}$", text, re.MULTILINE)
    assert sorted(rows) == sorted(CHRONOS_KEYS | FLEET_KEYS)
    assert "`PublishPort`" in text
    assert text.endswith(".\n")
