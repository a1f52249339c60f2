"""`[Container]`: quadlet's keys (podman-systemd.unit(5)) as a create body of the Engine API.

Most keys are an option of `docker run` under another name, so they go through the same option table; the rest is in
`quadlet_keys`. Keys that only make sense under podman or systemd are accepted with a warning, keys that cannot be
honoured are errors. Beyond quadlet there are `CPUs=`, `GPUs=`, `MemorySwap=`, `Platform=` and `Privileged=`.

Two things are for the machine to resolve, see `ContainerExtras`: files, and secrets. The engine knows secrets only in a
swarm, so `Secret=name` is the file `name` in the machine's directory of secrets: bound read-only at /run/secrets/name
(or `target=`), or read into a variable with `type=env`.
"""

from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import msgspec

from xchronos.dockercli.body import container_parts
from xchronos.dockercli.flags import Parsed
from xchronos.dockercli.quadlet.draft import ContainerDraft, Secret
from xchronos.dockercli.quadlet.keys import ERRORS, KEYS, WARNINGS
from xchronos.errors import InvalidValue, Severity

__all__ = ["KNOWN_KEYS", "ContainerExtras", "ContainerProblem", "Secret", "container_body"]

KNOWN_KEYS = frozenset(KEYS) | frozenset(WARNINGS) | frozenset(ERRORS)
"""Every key of [Container]: for suggestions when one is misspelt."""


class ContainerExtras(msgspec.Struct, frozen=True):
    """What stands beside the create body, and what only the machine can resolve; the fields are those of `Create`.

    `optional_devices` are entries of `HostConfig.Devices` to be added when the device exists on the machine.
    """

    image: str = ""
    name: str | None = None
    pull: str = "missing"
    platform: str = ""
    networks: tuple[str, ...] = ()
    env_files: tuple[str, ...] = ()
    label_files: tuple[str, ...] = ()
    seccomp_profile: str = ""
    secrets: tuple[Secret, ...] = ()
    optional_devices: tuple[dict[str, str], ...] = ()


class ContainerProblem(NamedTuple):
    """One thing wrong in `[Container]`, with its key and line (0: the section as a whole)."""

    key: str
    message: str
    severity: Severity
    line: int


def container_body(
    options: Iterable[tuple[str, str, int]], env: Mapping[str, str] | None = None
) -> tuple[dict[str, Any], ContainerExtras, list[ContainerProblem]]:
    """(create body, extras, problems) of the `[Container]` options, given as (key, value, line) in file order.

    An empty value forgets what the key said before. All problems are reported at once; with an error among them the
    body is not to be used. `env` answers a `-e NAME` among `PodmanArgs=`.
    """
    problems: list[ContainerProblem] = []
    by_key: dict[str, list[tuple[str, int]]] = {}
    for key, value, line in options:
        if key in KEYS:
            if value:
                by_key.setdefault(key, []).append((value, line))
            else:
                by_key.pop(key, None)
        elif key in WARNINGS:
            problems.append(ContainerProblem(key, f"no effect: {WARNINGS[key]}", "warning", line))
        elif key in ERRORS:
            problems.append(ContainerProblem(key, f"not supported: {ERRORS[key]}", "error", line))
        else:
            problems.append(ContainerProblem(key, "unknown key of [Container]", "error", line))
    draft = ContainerDraft()
    for key, assignments in by_key.items():
        rule = KEYS[key]
        for value, line in assignments if rule.many else assignments[-1:]:
            draft.warnings.clear()
            try:
                rule.apply(draft, value)
            except InvalidValue as error:
                problems.append(ContainerProblem(key, str(error), "error", line))
            problems.extend(ContainerProblem(key, message, "warning", line) for message in draft.warnings)
    first_line = min((line for assignments in by_key.values() for _, line in assignments), default=0)
    parts: dict[str, Any] = {"body": {}}
    try:
        parts = _finish(draft, env or {}, problems, first_line)
    except InvalidValue as error:
        problems.append(ContainerProblem("", str(error), "error", first_line))
    body = parts.pop("body")
    for unused in ("quiet", "cidfile"):
        parts.pop(unused, None)
    if draft.seccomp_profile:
        parts["seccomp_profile"] = draft.seccomp_profile
    extras = ContainerExtras(**parts, secrets=tuple(draft.secrets), optional_devices=tuple(draft.optional_devices))
    return body, extras, problems


def _finish(
    draft: ContainerDraft, env: Mapping[str, str], problems: list[ContainerProblem], line: int
) -> dict[str, Any]:
    """Everything that several keys decide together."""
    if not draft.image:
        raise InvalidValue("Image= is missing: expected the image to run")
    if draft.group:
        if not draft.values.get("user"):
            raise InvalidValue("Group= without User=: expected a user as well")
        draft.values["user"] += f":{draft.group}"
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
    """As podman does with a read-only root file system: /run, /tmp and /var/tmp stay writable, unless mounted."""
    mounted = {bind.split(":")[1] for bind in host["Binds"] or ()} | set(body["Volumes"])
    mounted.update(mount["Target"] for mount in host.get("Mounts", ()))
    corners = {path: "" for path in ("/run", "/tmp", "/var/tmp") if path not in mounted}  # noqa: S108 - in the container
    host["Tmpfs"] = {**corners, **host.get("Tmpfs", {})}
