"""The measured samples for files, command lines, environments, names, specifiers and time spans.

`XCHRONOS_CONFORMANCE` names a directory with a bigger set of the same format.
"""

import base64
import hashlib
import json
import os
from pathlib import Path

import pytest

from xchronos.errors import InvalidValue, UnitFileError
from xchronos.unitfile import (
    HostFacts,
    UnitName,
    escape,
    expand,
    expand_fleet,
    mangle,
    parse,
    parse_env_file,
    parse_environment,
    parse_exec,
    parse_fleet,
    parse_timeout,
    unescape,
)

DIRECTORY = Path(os.environ.get("XCHRONOS_CONFORMANCE") or Path(__file__).parent.parent / "conformance")
FACTS = {
    "H": "hostname",
    "m": "machine_id",
    "b": "boot_id",
    "v": "kernel",
    "a": "architecture",
    "q": "pretty_hostname",
    "o": "os_id",
    "w": "os_version_id",
    "M": "os_image_id",
    "A": "os_image_version",
    "B": "os_build_id",
    "W": "os_variant_id",
    "u": "user",
    "U": "uid",
    "g": "group",
    "G": "gid",
    "h": "home",
    "s": "shell",
    "t": "runtime_directory",
    "S": "state_directory",
    "C": "cache_directory",
    "L": "log_directory",
    "E": "configuration_directory",
    "T": "temporary_directory",
    "V": "persistent_temporary_directory",
}


KINDS = {
    "environment": {"environment", "env_file"},
    "specifiers": {"name_valid", "specifier", "escape", "unescape", "mangle"},
}


@pytest.mark.parametrize("name", KINDS)
def test_every_kind_is_covered(name):
    assert {case["kind"] for case in json.loads((DIRECTORY / f"{name}.json").read_text())} <= KINDS[name]


def cases(name, kind=None):
    found = [case for case in json.loads((DIRECTORY / f"{name}.json").read_text()) if kind in {None, case.get("kind")}]
    return [pytest.param(case, id=case["id"]) for case in found]


def host_of(case):
    # %l follows from %H here, so the samples' own value for it is not needed.
    return HostFacts(**{FACTS[letter]: value for letter, value in case.get("ctx", {}).items() if letter != "l"})


def text_of(case):
    if "text" in case:
        return case["text"]
    if "text_b64" in case:
        return base64.b64decode(case["text_b64"])
    return "".join(piece * count for piece, count in case["text_parts"])


def options_of(unit, expected):
    found = [[option.section, option.name, option.value] for option in unit.options]
    for mine, theirs in zip(found, expected, strict=False):
        if isinstance(theirs[2], dict):
            mine[2] = {"len": len(mine[2]), "sha256": hashlib.sha256(mine[2].encode()).hexdigest()}
    return found


def check_parse(read, case, answer):
    if answer.get("expect_error"):
        with pytest.raises(UnitFileError):
            read(text_of(case))
    else:
        assert options_of(read(text_of(case)), answer["expect"]) == answer["expect"]


@pytest.mark.parametrize("case", cases("unit_parse"))
def test_parse(case):
    check_parse(parse, case, case)


@pytest.mark.parametrize("case", cases("unit_parse"))
def test_parse_as_fleet(case):
    check_parse(parse_fleet, case, case.get("fleet", case))


VIA_SHELL = {"exec-267": "|/bin/sh -c x"}
"""What systemd 252 refused, and 258 runs in a shell."""


@pytest.mark.parametrize("case", [one for one in cases("exec_split") if one.id not in VIA_SHELL])
def test_exec(case):
    name = UnitName.parse(case.get("unit", "test.service"))
    host = host_of(case)
    if case.get("expect_error"):
        if "refused" in case["severity"]:
            with pytest.raises(InvalidValue):
                parse_exec(case["line"], name)
        else:
            parsed = parse_exec(case["line"], name)
            assert parsed.dropped
            assert parsed.warnings
        return
    parsed = parse_exec(case["line"], name)
    commands = [line.specify(name, host) for line in parsed.lines]
    found = [
        {"prefixes": line.prefixes, "path": command.path, "argv": list(command.argv)}
        for line, command in zip(parsed.lines, commands, strict=True)
    ]
    assert found == (case["expect"] if isinstance(case["expect"], list) else [case["expect"]])
    if "expanded" in case:
        assert list(parsed.lines[0].resolve(name, host, case["env"]).argv) == case["expanded"]


@pytest.mark.parametrize("case", cases("environment", "environment"))
def test_environment(case):
    name = UnitName.parse(case.get("unit", "test.service"))
    values = parse_environment(case["lines"], name, host_of(case)).values
    assert [f"{variable}={value}" for variable, value in values.items()] == case["expect"]


@pytest.mark.parametrize("case", cases("environment", "env_file"))
def test_env_file(case):
    if case.get("expect_error"):
        with pytest.raises(InvalidValue):
            parse_env_file(case["text"])
        return
    found = parse_env_file(case["text"])
    assert found.values == case["expect"]
    assert list(found.dropped) == case.get("dropped", [])


@pytest.mark.parametrize("case", cases("specifiers", "name_valid"))
def test_name(case):
    if not case["valid"]:
        with pytest.raises(InvalidValue):
            UnitName.parse(case["name"])
        return
    name = UnitName.parse(case["name"])
    assert (name.kind, name.prefix, name.instance) == (case["name_kind"], case["prefix"], case["instance"])
    assert (name.suffix, name.template) == (case["suffix"], case["template"])


@pytest.mark.parametrize("case", cases("specifiers", "specifier"))
def test_specifier(case):
    name = UnitName.parse(case["unit"])
    host = host_of(case)
    if case.get("expect_error"):
        with pytest.raises(InvalidValue):
            expand(case["text"], name, host)
    else:
        assert expand(case["text"], name, host) == case["expect"]
        assert expand(expand(case["text"], name), name, host) == case["expect"]
    assert expand_fleet(case["text"], name) == case.get("fleet_x_section", case.get("expect"))


def check_text(function, case, **options):
    if case.get("expect_error"):
        with pytest.raises(InvalidValue):
            function(case["input"], **options)
    else:
        assert function(case["input"], **options) == case["expect"]


@pytest.mark.parametrize("case", cases("specifiers", "escape"))
def test_escape(case):
    check_text(escape, case, path=case["path"])


@pytest.mark.parametrize("case", cases("specifiers", "unescape"))
def test_unescape(case):
    check_text(unescape, case, path=case["path"])


@pytest.mark.parametrize("case", cases("specifiers", "mangle"))
def test_mangle(case):
    check_text(mangle, case)


@pytest.mark.parametrize("case", cases("timespan"))
def test_timespan(case):
    if case.get("expect_error"):
        with pytest.raises(InvalidValue):
            parse_timeout(case.get("key", ""), case["text"])
    else:
        assert parse_timeout(case.get("key", ""), case["text"]) == case["expect"]
