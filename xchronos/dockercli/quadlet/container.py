"""`[Container]`: quadlet's keys (podman-systemd.unit(5)) as a body that creates a container through the Engine API.

Most keys are options of `docker run` under another name, and are read by the same table of options. The module `rules`
reads the others. A key that has a meaning only under podman or systemd gives a warning. A key that cannot be honoured
is an error. `CPUs=`, `GPUs=`, `MemorySwap=`, `Platform=` and `Privileged=` are not quadlet's.

The machine resolves files and secrets, which are in `ContainerExtras`. The engine has secrets only in a swarm. Here,
`Secret=name` is the file `name` in the machine's directory of secrets. It is bound read-only at /run/secrets/name (or
`target=`), or with `type=env` read into a variable.
"""

from collections.abc import Collection, Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from xchronos.dockercli.body import container_parts
from xchronos.dockercli.flags import Parsed
from xchronos.dockercli.quadlet.draft import ContainerDraft, Secret
from xchronos.dockercli.quadlet.keys import ERRORS, KEY_RULES, WARNINGS
from xchronos.dockercli.quadlet.reading import ValueReader
from xchronos.dockercli.quadlet.variables import ExpansionBudget, Variables
from xchronos.errors import InvalidValue, Severity

__all__ = ["CONTAINER_KEYS", "ContainerExtras", "ContainerProblem", "Secret", "container_body"]

CONTAINER_KEYS = frozenset(KEY_RULES) | frozenset(WARNINGS) | frozenset(ERRORS)
"""Every key of [Container], also those that are refused. Errors about a misspelt key suggest one of them."""


_NONE = Variables()


class ContainerExtras(msgspec.Struct, frozen=True):
    """What belongs to the container but not into the create body. Fields without a text here are those of `Create`."""

    image: str = ""
    name: str | None = None
    pull: str = "missing"
    platform: str = ""
    networks: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    label_files: tuple[str, ...] = ()
    seccomp_profile: str = ""
    secrets: tuple[Secret, ...] = ()
    """The secrets, which the machine reads when the step runs."""
    optional_devices: tuple[dict[str, str], ...] = ()
    """Entries of `HostConfig.Devices`. The machine adds those whose device it has."""


class ContainerProblem(NamedTuple):
    """One problem in `[Container]`, with its key and line. An empty key means several keys together."""

    key: str
    message: str
    severity: Severity
    line: int


def container_body(
    options: Iterable[tuple[str, str, int]],
    variables: Variables = _NONE,
    env: Mapping[str, str] | None = None,
    refused: Collection[str] = (),
) -> tuple[dict[str, Any], ContainerExtras, list[ContainerProblem]]:
    """(create body, extras, problems) for the options of `[Container]`, given as (key, value, line) in file order.

    An empty value drops the values that the key had before. All problems are returned together. If one of them is an
    error, do not use the body. While a variable is open (`Variables.is_open`), the body has a stand-in for it.

    `variables` are those of `[Service]`. `env` holds the values for `-e NAME` within `PodmanArgs=`. `refused` are keys
    with a value that was refused before: they are not missing.
    """
    problems: list[ContainerProblem] = []
    by_key: dict[str, list[tuple[str, int]]] = {}
    for key, value, line in options:
        if key in KEY_RULES:
            if value or getattr(KEY_RULES[key], "reset", None) is not None:
                by_key.setdefault(key, []).append((value, line))
            else:
                by_key.pop(key, None)
        elif key in WARNINGS:
            problems.append(ContainerProblem(key, f"no effect: {WARNINGS[key]}", "warning", line))
        elif key in ERRORS:
            problems.append(ContainerProblem(key, f"not supported: {ERRORS[key]}", "error", line))
        else:
            problems.append(ContainerProblem(key, "unknown key of [Container]", "error", line))
    draft, budget = ContainerDraft(), ExpansionBudget()
    is_open = False
    for key, assignments in by_key.items():
        reader = ValueReader(key, KEY_RULES[key], variables, budget)
        for value, line in assignments if reader.many else assignments[-1:]:
            found = reader.read(draft, value)
            problems.extend(ContainerProblem(key, message, severity, line) for message, severity in found)
        is_open |= reader.open
    first_line = min((line for assignments in by_key.values() for _, line in assignments), default=0)
    parts: dict[str, Any] = {"body": {}}
    wrong = {*refused, *(problem.key for problem in problems if problem.severity == "error")}
    try:
        if draft.image or "Image" not in wrong:
            parts = _finish(draft, env or {}, problems, first_line, wrong)
    except InvalidValue as error:
        # Values that the machine knows may fit each other where the stand-ins do not.
        severity: Severity = "warning" if is_open and draft.image else "error"
        problems.append(ContainerProblem("", str(error), severity, first_line))
    body = parts.pop("body")
    for unused in ("quiet", "cidfile"):
        parts.pop(unused, None)
    if draft.seccomp_profile:
        parts["seccomp_profile"] = draft.seccomp_profile
    extras = ContainerExtras(**parts, secrets=tuple(draft.secrets), optional_devices=tuple(draft.optional_devices))
    return body, extras, problems


def _finish(
    draft: ContainerDraft, env: Mapping[str, str], problems: list[ContainerProblem], line: int, wrong: Collection[str]
) -> dict[str, Any]:
    """The fields of `Create`, from all keys together. Raises InvalidValue for keys that do not fit each other.

    `wrong` are the keys that have a problem already: a value that was refused is not missing.
    """
    if not draft.image:
        raise InvalidValue("Image= is missing: expected the image to run")
    if draft.group and draft.values.get("user"):
        draft.values["user"] += f":{draft.group}"
    elif draft.group and "User" not in wrong:
        raise InvalidValue("Group= without User=: expected a user as well")
    parsed = Parsed(draft.values, [draft.image, *draft.command], [])
    parts = container_parts(parsed, env)
    problems.extend(ContainerProblem("", warning, "warning", line) for warning in parsed.warnings)
    body, host = parts["body"], parts["body"]["HostConfig"]
    if draft.entrypoint is not None:
        body["Entrypoint"] = draft.entrypoint
    if draft.health_test is not None:
        body["Healthcheck"] = {**body.get("Healthcheck", {}), "Test": draft.health_test}
    if draft.masked is not None:
        host["MaskedPaths"] = draft.masked
    if draft.unmasked_readonly is not None:
        host["ReadonlyPaths"] = draft.unmasked_readonly
    if host["ReadonlyRootfs"] and draft.read_only_tmpfs:
        _writable_corners(body, host)
    return parts


def _writable_corners(body: dict[str, Any], host: dict[str, Any]) -> None:
    """Keep /run, /tmp and /var/tmp writable on a read-only root file system, as podman does.

    A path that is mounted is left alone; `test_a_read_only_root_leaves_what_is_mounted_alone` pins that.
    """
    mounted = {bind.split(":")[1] for bind in host["Binds"] or ()} | set(body["Volumes"])
    mounted.update(mount["Target"] for mount in host.get("Mounts", ()))
    corners = {path: "" for path in ("/run", "/tmp", "/var/tmp") if path not in mounted}  # noqa: S108 - in the container
    host["Tmpfs"] = {**corners, **host.get("Tmpfs", {})}
