"""What a step is given of this host's files and tables. They are read right before it runs, and never on the loop.

A unit names them, so they may be anything (`hostfiles`). systemd lets ExecStartPre write an EnvironmentFile=, so each
step reads them anew.
"""

import pwd
from collections.abc import Mapping
from pathlib import Path

import msgspec

from xchronos.agent.steps.resolved_unit import ResolvedUnit
from xchronos.errors import InvalidValue
from xchronos.executors.docker.body import as_text
from xchronos.hostfiles import HostFileRefused
from xchronos.model.unit import Container
from xchronos.unitfile import parse_env_file


class HostInputs(msgspec.Struct, frozen=True):
    """What was read for one step.

    Attributes:
        user: What systemd tells a process that runs as another user (User=) of that user.
        variables: What EnvironmentFile= of [Service] says.
        in_directory: Whether the directory of `WorkingDirectory=-` is there.
        container: What [Container] is on this machine; None: the step runs in none.
        env_files: The paths and the texts of EnvironmentFile= of [Container].
        label_files: The paths and the texts of its label files.
        seccomp: The text of its seccomp profile; empty: it names none.
        devices: Those of its optional devices that are there.
        secrets: The texts of its secrets, by name.
    """

    user: Mapping[str, str] = {}
    variables: Mapping[str, str] = {}
    in_directory: bool = False
    container: Container | None = None
    env_files: tuple[tuple[str, str], ...] = ()
    label_files: tuple[tuple[str, str], ...] = ()
    seccomp: str = ""
    devices: tuple[dict[str, str], ...] = ()
    secrets: Mapping[str, str] = {}


_NOBODY = ("nobody", "65534")
_NO_SHELLS = frozenset(
    f"{directory}/{name}"
    for directory in ("/bin", "/sbin", "/usr/bin", "/usr/sbin")
    for name in ("nologin", "false", "true")
)
"""The programs that systemd knows as shells of users who do not log in."""

NO_INPUTS = HostInputs()
"""For a step that is given nothing of this host."""


def needs_inputs(resolved: ResolvedUnit, kind: str) -> bool:
    """Whether a step of this kind, outside of a container, is given anything of this host's."""
    service = resolved.unit.service
    return bool(service.environment_files or service.working_directory_optional or (service.user and kind == "process"))


async def read_inputs(resolved: ResolvedUnit, kind: str) -> HostInputs:
    """Read what any step of this kind is given. Raises InvalidValue, and StartRefused for a file that is not read."""
    if not needs_inputs(resolved, kind):
        return NO_INPUTS
    service, files = resolved.unit.service, resolved.host.files
    variables: dict[str, str] = {}
    for pattern, optional in service.environment_files:
        variables |= await _variables(resolved, resolved.expand(pattern), optional=optional)
    user = resolved.expand(service.user) if kind == "process" else ""
    directory = resolved.working_directory if service.working_directory_optional else ""
    return HostInputs(
        # The users may be on a server of their own (LDAP), which may not answer either.
        user=await files.ask(lambda: user_environment(user), f"User={user}") if user else {},
        variables=variables,
        in_directory=bool(directory) and await files.ask(Path(directory).is_dir, f"WorkingDirectory=-{directory}"),
    )


async def _variables(resolved: ResolvedUnit, wanted: str, *, optional: bool) -> dict[str, str]:
    """What the files of one EnvironmentFile= say. `optional`: what is not there, or may not be read, says nothing."""
    files = resolved.host.files
    variables: dict[str, str] = {}
    found = await files.match(wanted, f"EnvironmentFile={wanted}")
    if not found and not optional:
        raise InvalidValue(f"EnvironmentFile={wanted}: no file matches")
    for path in found:
        what = f"EnvironmentFile={path}"
        try:
            content = await files.read(path, what)
        except HostFileRefused as error:
            if optional and error.absent:
                continue
            raise
        try:
            variables |= parse_env_file(content).values
        except InvalidValue as error:
            raise InvalidValue(f"{what}: {error}") from None
    return variables


def user_environment(user: str) -> dict[str, str]:
    """What systemd tells a process of its user, whose name or number is given. Blocks while the users are looked up.

    A home of nobody's, and a shell that lets nobody in, are not told (`test_who_has_a_home_and_a_shell_is_told_so`).
    """
    try:
        entry = pwd.getpwuid(int(user)) if user.isdecimal() else pwd.getpwnam(user)
    except KeyError:
        return {}  # the step itself fails then, with systemd's exit code 217
    told = {"USER": entry.pw_name, "LOGNAME": entry.pw_name}
    if user not in _NOBODY:
        if entry.pw_dir.startswith("/") and entry.pw_dir.strip("/"):
            told["HOME"] = entry.pw_dir
        if lets_in(entry.pw_shell):
            told["SHELL"] = entry.pw_shell
    return told


def lets_in(shell: str) -> bool:
    """Whether a shell of the list of users is one that runs commands."""
    return shell.startswith("/") and shell not in _NO_SHELLS


async def with_container(resolved: ResolvedUnit, container: Container, inputs: HostInputs) -> HostInputs:
    """Read what a step in this container is given as well: the files that `container`, as it is here, names.

    Raises as `read_inputs` does.
    """
    extras, files = container.extras, resolved.host.files

    async def texts(paths: tuple[str, ...], what: str) -> tuple[tuple[str, str], ...]:
        return tuple([(path, as_text(await files.read(path, f"{what} {path}"), f"{what} {path}")) for path in paths])

    def is_there(path: str) -> bool:
        return Path(path).exists()

    devices = []
    for device in extras.optional_devices:
        path = device["PathOnHost"]
        if await files.ask(lambda path=path: is_there(path), f"AddDevice=-{path}"):  # type: ignore[misc]
            devices.append(device)
    profile = await texts((extras.seccomp_profile,), "seccomp profile") if extras.seccomp_profile else ()
    return msgspec.structs.replace(
        inputs,
        container=container,
        env_files=await texts(extras.env_files, "environment file"),
        label_files=await texts(extras.label_files, "label file"),
        seccomp=profile[0][1] if profile else "",
        devices=tuple(devices),
        secrets={secret.name: await _secret(resolved, secret.name) for secret in extras.secrets},
    )


async def _secret(resolved: ResolvedUnit, name: str) -> str:
    place = resolved.host.secrets
    if "/" in name or name.startswith("."):
        raise InvalidValue(f"secret {name!r}: expected the name of a file in {place}")
    what = f"secret {name!r}: {place / name}"
    try:
        return as_text(await resolved.host.files.read(place / name, what, listed=False), what)
    except HostFileRefused as error:
        if isinstance(error.__cause__, FileNotFoundError):
            raise InvalidValue(f"secret {name!r}: there is no file {place / name}") from None
        raise
