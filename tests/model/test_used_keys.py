"""What is accepted as used is acted upon: every key changes the compiled unit, and every compiled field is read."""

import ast
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest

from xchronos.dockercli.quadlet.container import ContainerExtras
from xchronos.errors import UnitFileError
from xchronos.model import conditions, policies
from xchronos.model import unit as units
from xchronos.model.compile.chronos import CHRONOS_KEYS
from xchronos.model.compile.unit import compile_unit
from xchronos.unitfile.directives import meaning
from xchronos.unitfile.directives.table import SECTIONS
from xchronos.unitfile.fleet.requirements import FLEET_KEYS, FleetRequirements

PACKAGE = Path(units.__file__).parents[1]

# -- every used key changes the compiled unit --------------------------------------------------------------------------

USED = [
    (section, key)
    for section, keys in (
        *SECTIONS.items(),
        ("X-Chronos", dict.fromkeys(sorted(CHRONOS_KEYS))),
        ("X-Fleet", dict.fromkeys(sorted(FLEET_KEYS))),
    )
    for key in keys
    if section.startswith("X-") or meaning(section, key) != "ignored"
]

WITH = {
    "RestartSec": "Restart=on-failure",
    "RestartSteps": "Restart=on-failure\nRestartMaxDelaySec=9",
    "RestartMaxDelaySec": "Restart=on-failure\nRestartSteps=3",
    "StartLimitBurst": "Restart=on-failure",
    "StartLimitInterval": "Restart=on-failure",
    "StartLimitIntervalSec": "Restart=on-failure",
    "RestartPreventExitStatus": "Restart=on-failure",
    "TimeBetweenAttempts": "[X-Chronos]\nMaxAttempts=3",
    "TimeBeetweenAttempts": "[X-Chronos]\nMaxAttempts=3",
    "RetryBackoff": "[X-Chronos]\nMaxAttempts=3\nTimeBetweenAttempts=5",
    "MaxTimeBetweenAttempts": "[X-Chronos]\nMaxAttempts=3\nTimeBetweenAttempts=5\nRetryBackoff=exponential",
    "ArtifactSHA256": "[X-Chronos]\nArtifact=http://x/y",
    "TriggerRepeatCount": "[X-Chronos]\nTriggerRepeatInterval=5s",
    "MemorySwapMax": "MemoryMax=1G",
    "ReadWritePaths": "ProtectSystem=strict",
    "ReadWriteDirectories": "ProtectSystem=strict",
    "ExecStart": "Type=oneshot",
    "Executor": "ExecStartPre=docker ps",
    "TimeZone": "[X-Chronos]\nTriggerCron=@daily",
}
"""What else a unit says when a key is tried. Most keys act alone."""

VALUES = (
    *("0", "3", "7s", "yes", "no", "/x", "x", "x.service", "web", "80%", "1G", "docker.service", "A=1", "A", "/bin/a", "/x:/y"),
    *("SIGQUIT", "mixed", "on-failure", "oneshot", "full", "CAP_KILL", "~CAP_KILL", "/dev/null rw", "strict", "http://x/y"),
    *("@daily", "daily", "R5/2030-01-01T00:00:00Z/PT10M", "2030-01-01T00:00:00Z", "Europe/Berlin", "FIRE_NOW", "forbid"),
    *("exponential", "random", "stop", "process", "f" * 64, "etcd", "a=b", "0-1", "man:x(1)", "true", "xchronos.triggers.simple:SimpleTrigger 1 2"),
)  # fmt: skip
"""Some of these is a value of every key, and not its default."""

ELSEWHERE = {
    ("X-Chronos", "TriggerClass"): "it needs a class that is installed: tests/triggers/test_custom.py has some"
}
"""Keys that are tried elsewhere, and why."""


def compiled(section: str, key: str, value: str) -> units.Unit | None:
    """A unit with an assignment, an empty value for none, without what always differs. None: it is refused."""
    container = "[Container]\nImage=box\n" if section == "Service" and meaning(section, key) == "container" else ""
    text = f"[Service]\nExecStart=/bin/true\n{WITH.get(key, '')}\n{container}[{section}]\n"
    try:
        unit = compile_unit("a.service", text + (f"{key}={value}\n" if value else ""))
    except UnitFileError:
        return None
    return msgspec.structs.replace(unit, revision="", warnings=(), level=1, level_because=())


@pytest.mark.parametrize(("section", "key"), [key for key in USED if key not in ELSEWHERE])
def test_every_used_key_changes_the_compiled_unit(section: str, key: str) -> None:
    without = compiled(section, key, "")
    assert any(compiled(section, key, value) not in (without, None) for value in VALUES)


# -- every compiled field is read --------------------------------------------------------------------------------------

COMPILED = (
    units.Unit, units.Service, units.Container, ContainerExtras, units.Step, units.ExitStatuses,
    units.TriggerSpec, policies.Retry, policies.Misfire, conditions.HostCondition, FleetRequirements,
)  # fmt: skip
"""What a unit file is compiled to."""

READ_IN_MODEL = {
    "Unit.time_zone": "the compiler has given it to the triggers; it is kept for who shows the unit",
    "Unit.job_store": "`Unit.warnings_on` reads it for the store that a daemon has",
    "Unit.level": "what daemons have to read of the unit: `features.unread` is asked",
    "Unit.level_because": "the same",
    "Unit.zones": "the same",
    "Unit.rules": "the same",
    "Container.service_parts": "`compile.container.on_machine`, which the agent asks, fills in the variables",
}
"""Fields that only model/ reads, and what for."""


def reads(source: str) -> Iterator[str]:
    """What is read of values in a module: the names after a dot, and those of patterns and of getattr."""
    for node in ast.walk(ast.parse(source)):
        if isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Load):
            yield node.attr
        elif isinstance(node, ast.MatchClass):
            yield from node.kwd_attrs


def test_every_compiled_field_is_read_outside_of_the_model() -> None:
    read = {
        name
        for path in PACKAGE.rglob("*.py")
        if path.relative_to(PACKAGE).parts[0] not in ("model", "testing")
        for name in reads(path.read_text(encoding="utf-8"))
    }
    unread = {f"{kind.__name__}.{field}" for kind in COMPILED for field in kind.__struct_fields__ if field not in read}
    assert unread <= READ_IN_MODEL.keys()
