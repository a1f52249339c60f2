"""What is sent to the engine for a step: the name, the labels, the create body, and files read from this machine."""

import hashlib
import io
import os
import tarfile
from collections.abc import Collection, Mapping, Sequence
from contextlib import suppress
from importlib import resources
from pathlib import Path
from typing import Any
from zoneinfo import TZPATH, ZoneInfo

import msgspec

from xchronos.dockercli import Create, Run
from xchronos.dockercli.body import RESERVED
from xchronos.durable import write_whole
from xchronos.errors import StartRefused
from xchronos.executors.contract import StepSpec
from xchronos.hostfiles import HostFileRefused, HostFiles, read_file

UNIT, EXECUTION, ATTEMPT = "xchronos.unit", "xchronos.execution", "xchronos.attempt"
STEP, NAMESPACE, KEEP = "xchronos.step", "xchronos.namespace", "xchronos.keep"
OWNER = "xchronos.owner"
"""The label that says which daemon a container belongs to.

Several daemons, each with its own state, may use one engine, and may even run units of the same name.
"""
KEEP_ALWAYS = "always"
"""The container is the user's: the user named it, or `docker run -d` or `docker create` left it there on purpose."""
KEEP_RUNNING = "running"
"""The container is the user's while it runs, and ours to remove after its end: `docker run -d --rm`."""
NO_LOG_CONFIG: Mapping[str, Any] = {"Type": "", "Config": {}}
"""A `LogConfig` that leaves it to the engine how it keeps output."""

PARTITION = "xchronos.partition"
"""The label with the value `stop` on what must not outlive the machine's lease. The guardian looks for it."""

NAME = "xchronos.name"
"""The label with the name that the container was made with. A container of another name is none of ours: somebody has
committed one of ours, and images hand their labels on. Containers of earlier releases do not have it."""


def container_name(spec: StepSpec, owner: str = "") -> str:
    """The name of a step's container: the same for every run of the step, by any daemon of this owner."""
    identity = f"{owner}\0{spec.execution}" if owner else spec.execution
    return f"xc-{hashlib.sha256(identity.encode()).hexdigest()[:16]}-{spec.attempt}-{spec.step}"


def labels_of(spec: StepSpec, namespace: str, owner: str) -> dict[str, str]:
    """The labels by which everything of a step is found again."""
    return {
        UNIT: spec.unit,
        EXECUTION: spec.execution,
        ATTEMPT: str(spec.attempt),
        STEP: spec.step,
        NAMESPACE: namespace,
        OWNER: owner,
    }


def is_ours(labels: Mapping[str, str], names: Collection[str]) -> bool:
    """Whether a container that has our labels also has the name that we gave it; `names` are the engine's, with `/`."""
    return NAME not in labels or f"/{labels[NAME]}" in names


def is_inherited(labels: Mapping[str, str], image: Mapping[str, str]) -> bool:
    """Whether a container has its identity from its image's labels, as one that somebody ran from a committed one."""
    return all(key in image and image[key] == labels.get(key) for key in (EXECUTION, ATTEMPT, STEP))


def _bound_to_lease(spec: StepSpec) -> dict[str, str]:
    """The partition label; its value says whether the step must not outlive the lease.

    It is none of the labels that identify a step, so that a daemon of a release without it still finds its containers.
    """
    return {PARTITION: "stop" if spec.on_partition == "stop" else ""}


def _with_options(log_config: Mapping[str, Any], options: Mapping[str, str]) -> dict[str, Any]:
    """Our log driver with the unit's options; json-file if `local` does not know them."""
    config = {**log_config["Config"], **options}
    if log_config["Type"] == "local" and not options.keys() <= {"max-size", "max-file", "compress"}:
        return {"Type": "json-file", "Config": config}
    return {"Type": log_config["Type"], "Config": config}


def is_removed_after(spec: StepSpec) -> bool:
    """Whether a step's container is removed as soon as the step's end is durable: no user has a claim to it.

    These are containers of [Container] and of `docker run --rm` in the foreground. Others stay until the attempt ends,
    or for ever: see `KEEP`.
    """
    if spec.docker is None:
        return True
    return isinstance(spec.docker, Run) and spec.docker.remove and not spec.docker.detach


def is_step(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a container's labels say that it belongs to exactly the wanted step."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _bounded(
    body: Mapping[str, Any], labels: Mapping[str, str], log_config: Mapping[str, Any]
) -> tuple[dict[str, Any], dict[str, Any]]:
    prepared = dict(body)
    # All of ours are said, also those that say nothing: an image may have labels of the same names.
    prepared["Labels"] = {**_not_ours(body.get("Labels") or {}), KEEP: "", PARTITION: "", **labels}
    host = prepared["HostConfig"] = dict(body.get("HostConfig") or {})
    host["AutoRemove"] = False  # its result would vanish with it
    logging = host.get("LogConfig") or {}
    if not logging.get("Type"):
        host["LogConfig"] = _with_options(log_config, logging.get("Config") or {})
    # No standard input, as under systemd: a program that reads it sees its end instead of waiting for ever.
    prepared |= {"AttachStdin": False, "OpenStdin": False, "StdinOnce": False}
    return prepared, host


def _not_ours(labels: Mapping[str, str]) -> dict[str, str]:
    return {name: value for name, value in labels.items() if not name.startswith(RESERVED)}


def step_body(
    spec: StepSpec, labels: Mapping[str, str], log_config: Mapping[str, Any] = NO_LOG_CONFIG
) -> dict[str, Any]:
    """The create body of a [Container] step: the unit's, with what every step needs and the step's environment.

    See `test_the_conditions_of_a_container_step`.
    """
    assert spec.body is not None
    prepared, host = _bounded(spec.body, {**labels, **_bound_to_lease(spec)}, log_config)
    if host.get("Init") is None:
        host["Init"] = True  # most programs would ignore SIGTERM if they were PID 1
    host["RestartPolicy"] = {"Name": "no"}
    env = {entry.partition("=")[0]: entry for entry in spec.body.get("Env") or ()}
    env |= {name: f"{name}={value}" for name, value in spec.env.items()}
    prepared["Env"] = list(env.values())
    _first_network_only(prepared, spec.networks)
    return prepared


async def command_body(
    spec: StepSpec,
    command: Create,
    labels: Mapping[str, str],
    files: HostFiles,
    *,
    detached: bool,
    log_config: Mapping[str, Any] = NO_LOG_CONFIG,
) -> dict[str, Any]:
    """The create body of a `docker run` or `docker create` line. Raises StartRefused for a file that cannot be read.

    It fills in only what the docker client itself would resolve on the machine
    (`test_what_is_resolved_on_the_machine`). In the foreground it drops a restart policy: restarting is the unit's
    business, and waiting for a container that always comes back would never end.
    """
    # A detached container outlives its step and its attempt on purpose, and so the lease too.
    more = {} if detached else _bound_to_lease(spec)
    prepared, host = _bounded(command.body, {**labels, **more}, log_config)
    written = list(command.body.get("Env") or ())
    env: list[str] = []
    own = Path(spec.directory)
    for file in command.env_files:
        env += await read_assignments(files, named_path(spec, file), spec.env, own)
    resolved = [_resolve(entry, spec.env) for entry in written]
    prepared["Env"] = env + resolved
    if command.label_files:
        pairs: list[str] = []
        for file in command.label_files:
            pairs += await read_assignments(files, named_path(spec, file), None, own)
        from_files = {key: value for key, _, value in (entry.partition("=") for entry in pairs)}
        prepared["Labels"] = {**_not_ours(from_files), **prepared["Labels"]}
    if command.seccomp_profile:
        path = named_path(spec, command.seccomp_profile)
        what = f"seccomp profile {path}"
        text = as_text(await files.read(path, what, own=own), what)
        try:
            profile = msgspec.json.encode(msgspec.json.decode(text)).decode()
        except msgspec.DecodeError as error:
            raise StartRefused(f"seccomp profile {command.seccomp_profile}: not JSON: {error}") from None
        host["SecurityOpt"] = [*(host.get("SecurityOpt") or ()), f"seccomp={profile}"]
    if host.get("Binds"):
        host["Binds"] = [await _absolute(bind, spec, files) for bind in host["Binds"]]
    if host.get("Mounts"):
        host["Mounts"] = [await _absolute_source(mount, spec, files) for mount in host["Mounts"]]
    if not detached:
        host["RestartPolicy"] = {"Name": "no"}
    _first_network_only(prepared, command.networks)
    return prepared


def seccomp_as_paths(body: dict[str, Any], spec: StepSpec) -> None:
    """Put the texts of seccomp profiles into files of the attempt: podman reads a path where docker takes the text."""
    options = body["HostConfig"].get("SecurityOpt") or ()
    for number, option in enumerate(options):
        name, _, text = option.partition("=")
        if name == "seccomp" and text.startswith("{"):
            path = Path(spec.directory) / f".{spec.step}.seccomp-{number}.json"
            write_whole(path, text.encode(), "none")
            body["HostConfig"]["SecurityOpt"] = [*options[:number], f"seccomp={path}", *options[number + 1 :]]


def _first_network_only(prepared: dict[str, Any], networks: Sequence[str]) -> None:
    if len(networks) > 1:
        endpoints = (prepared.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        prepared["NetworkingConfig"] = {"EndpointsConfig": {networks[0]: endpoints.get(networks[0]) or {}}}


def further_networks(networks: Sequence[str], body: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The networks after the first, with their endpoint settings. They are connected between create and start.

    An engine below API 1.44 takes only one endpoint in the create body. Every engine takes the others this way
    (`test_two_networks_at_once`).
    """
    endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    return [(network, endpoints.get(network) or {}) for network in networks[1:]]


def named_path(spec: StepSpec, path: str) -> Path:
    """A path of this host that a step's docker line names: a relative one begins where the step runs."""
    return Path(spec.working_directory or spec.directory) / path


def _resolve(entry: str, env: Mapping[str, str]) -> str:
    """`-e NAME` takes its value from the step's environment. Without a value there the engine drops the name."""
    return f"{entry}={env[entry]}" if "=" not in entry and entry in env else entry


def _is_relative(source: str) -> bool:
    """Whether a client of Docker 23 or later takes this for a path below its working directory."""
    return source.split("/", 1)[0] in (".", "..")


async def _absolute(bind: str, spec: StepSpec, files: HostFiles) -> str:
    source, colon, rest = bind.partition(":")
    if colon and _is_relative(source):
        return f"{await files.ask(named_path(spec, source).resolve, f'-v {source}')}:{rest}"
    return bind


async def _absolute_source(mount: dict[str, Any], spec: StepSpec, files: HostFiles) -> dict[str, Any]:
    source = mount.get("Source", "")
    if mount.get("Type") != "bind" or not _is_relative(source):
        return mount
    return {**mount, "Source": str(await files.ask(named_path(spec, source).resolve, f"--mount source={source}"))}


def as_text(content: bytes, what: str) -> str:
    """The text of a file. Raises StartRefused, whose reason begins with `what`, when it is none."""
    try:
        return content.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise StartRefused(f"{what}: not UTF-8") from None


async def read_assignments(
    files: HostFiles, path: Path, env: Mapping[str, str] | None, own: Path | None = None
) -> list[str]:
    """Read a `--env-file` or (`env` None) `--label-file`; see `assignments_in`. Raises StartRefused.

    `own` is the attempt's directory.
    """
    what = f"{_kind_of(env)} {path}"
    return assignments_in(as_text(await files.read(path, what, own=own), what), str(path), env)


def _kind_of(env: Mapping[str, str] | None) -> str:
    return "label file" if env is None else "environment file"


def assignments_in(text: str, path: str, env: Mapping[str, str] | None) -> list[str]:
    """The text of a `--env-file` or (`env` None) `--label-file` as the docker client reads it. Raises StartRefused.

    A line is one assignment and is taken literally: no quotes, no escapes. `#` begins a comment line. A name alone
    takes its value from `env`; without a value there it is left out (`test_env_files`).
    """
    found = []
    for number, raw in enumerate(text.splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        if not name or name != "".join(name.split()):
            problem = "the name is empty" if not name else f"the name {name!r} contains blanks"
            raise StartRefused(f"{_kind_of(env)} {path}:{number}: {problem}; expected NAME=value")
        if equals or env is None:
            found.append(line)
        elif name in env:
            found.append(f"{name}={env[name]}")
    return found


def write_id(path: Path, container: str) -> None:
    """Write a container's id into a new file. Blocks as long as the file system does.

    A file of that very content is one that an earlier daemon has written for this very container.

    Raises:
        StartRefused: there is something else of that name, a file or not.
        OSError: the file cannot be made.
    """
    what = f"container ID file {path}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        known = b""
        with suppress(HostFileRefused):  # it is no file, or a large one: it is not ours in any case
            known = read_file(str(path), what)
        if known.decode(errors="replace") != container:
            raise StartRefused(f"{what} exists: another container may be running by it; delete it first") from None
        return
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - of a descriptor
        file.write(container)


ZONES = "/usr/share/zoneinfo"
"""Where the programs of an image look for the rules of time zones."""


def zone_rules(name: str) -> bytes:
    """The rules of a time zone, as the file that programs read; b"" when this machine knows no such zone. Blocks."""
    try:
        ZoneInfo(name)  # it knows what is a name, and leads out of no directory
    except (KeyError, ValueError, OSError):
        return b""
    for place in TZPATH:
        with suppress(OSError):
            return Path(place, name).read_bytes()
    with suppress(OSError):
        return resources.files("tzdata").joinpath("zoneinfo", *name.split("/")).read_bytes()
    return b""


def secrets_archive(secrets: Mapping[str, str | bytes]) -> bytes:
    """A tar archive of secrets and the like, each file readable for every user in the container.

    `secrets` maps a target (an absolute path, or a name below /run/secrets) to the content.
    """
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for target, content in secrets.items():
            data = content.encode() if isinstance(content, str) else content
            entry = tarfile.TarInfo(target.lstrip("/") if target.startswith("/") else f"run/secrets/{target}")
            entry.size = len(data)
            entry.mode = 0o444
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
