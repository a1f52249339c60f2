"""What is sent to the engine for a step: labels, names, the create body, the files that only the machine can read."""

import hashlib
import io
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import msgspec

from xchronos.dockercli import Create
from xchronos.errors import StartRefused
from xchronos.executors.contract import StepSpec

UNIT, EXECUTION, ATTEMPT = "xchronos.unit", "xchronos.execution", "xchronos.attempt"
STEP, NAMESPACE, KEEP = "xchronos.step", "xchronos.namespace", "xchronos.keep"
OWNER = "xchronos.owner"
"""Whose it is: several daemons, each with its own state, may use one engine, and even run units of one name."""
KEEP_ALWAYS = "always"
"""The container is the user's: named by them, or left behind as `docker run -d` and `docker create` do."""
KEEP_RUNNING = "running"
"""The user's as long as it runs, ours to remove once it has ended: `docker run -d --rm`."""
PARTITION = "xchronos.partition"
"""`stop` on what must not outlive the machine's lease; the guardian looks for it."""


def container_name(spec: StepSpec, owner: str = "") -> str:
    """The name of a step's container: the same whenever, and by whichever daemon of this owner, the step is run."""
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


def _bound_to_lease(spec: StepSpec) -> dict[str, str]:
    """No part of what identifies a step: a daemon that knows nothing of it must find its own again."""
    return {PARTITION: "stop"} if spec.on_partition == "stop" else {}


def is_step(labels: Mapping[str, str], wanted: Mapping[str, str]) -> bool:
    """Whether a container's labels say that it is this very step's."""
    return all(labels.get(key) == value for key, value in wanted.items())


def _bounded(body: Mapping[str, Any], labels: Mapping[str, str], limit: int) -> tuple[dict[str, Any], dict[str, Any]]:
    prepared = dict(body)
    prepared["Labels"] = {**(body.get("Labels") or {}), **labels}
    host = prepared["HostConfig"] = dict(body.get("HostConfig") or {})
    host["AutoRemove"] = False  # its result would vanish with it, ours or not
    if not (host.get("LogConfig") or {}).get("Type"):
        # Two files of twice the limit: json-file escapes and stamps every line, and keeps what we keep at least.
        host["LogConfig"] = {"Type": "json-file", "Config": {"max-size": str(max(2 * limit, 65536)), "max-file": "2"}}
    # No standard input, as under systemd: what reads it sees its end, instead of waiting for ever.
    prepared |= {"AttachStdin": False, "OpenStdin": False, "StdinOnce": False}
    return prepared, host


def step_body(spec: StepSpec, labels: Mapping[str, str]) -> dict[str, Any]:
    """The create body of a [Container] step: the unit's own with our conditions, and the step's environment."""
    assert spec.body is not None
    prepared, host = _bounded(spec.body, {**labels, **_bound_to_lease(spec)}, spec.log_limit)
    if host.get("Init") is None:
        host["Init"] = True  # as PID 1 most programs would ignore SIGTERM
    host["RestartPolicy"] = {"Name": "no"}
    env = {entry.partition("=")[0]: entry for entry in spec.body.get("Env") or ()}
    env |= {name: f"{name}={value}" for name, value in spec.env.items()}
    prepared["Env"] = list(env.values())
    _first_network_only(prepared, spec.networks)
    return prepared


def command_body(spec: StepSpec, command: Create, labels: Mapping[str, str], *, detached: bool) -> dict[str, Any]:
    """The create body of a `docker run` or `docker create` line. Raises StartRefused for a file that cannot be read.

    Only what the docker client itself would resolve on this machine is filled in. In the foreground a restart policy
    is dropped: restarting is the unit's business, and a wait for a container that comes back has no end.
    """
    # What is detached outlives its step and its attempt, and so the lease.
    more = {} if detached else _bound_to_lease(spec)
    prepared, host = _bounded(command.body, {**labels, **more}, spec.log_limit)
    written = list(command.body.get("Env") or ())
    env = [entry for file in command.env_files for entry in read_assignments(_place(spec, file), spec.env)]
    resolved = [_resolve(entry, spec.env) for entry in written]
    prepared["Env"] = env + resolved
    if command.label_files:
        pairs = [entry for file in command.label_files for entry in read_assignments(_place(spec, file), None)]
        from_files = {key: value for key, _, value in (entry.partition("=") for entry in pairs)}
        prepared["Labels"] = {**from_files, **prepared["Labels"]}
    if command.seccomp_profile:
        text = _text(_place(spec, command.seccomp_profile), "seccomp profile")
        try:
            profile = msgspec.json.encode(msgspec.json.decode(text)).decode()
        except msgspec.DecodeError as error:
            raise StartRefused(f"seccomp profile {command.seccomp_profile}: not JSON: {error}") from None
        host["SecurityOpt"] = [*(host.get("SecurityOpt") or ()), f"seccomp={profile}"]
    if host.get("Binds"):
        host["Binds"] = [_absolute(bind, spec) for bind in host["Binds"]]
    if not detached:
        host["RestartPolicy"] = {"Name": "no"}
    _first_network_only(prepared, command.networks)
    return prepared


def _first_network_only(prepared: dict[str, Any], networks: Sequence[str]) -> None:
    if len(networks) > 1:
        endpoints = (prepared.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
        prepared["NetworkingConfig"] = {"EndpointsConfig": {networks[0]: endpoints.get(networks[0]) or {}}}


def further_networks(networks: Sequence[str], body: Mapping[str, Any]) -> list[tuple[str, dict[str, Any]]]:
    """The networks behind the first with their endpoint settings: they are connected between create and start.

    An engine below API 1.44 takes one endpoint at creation; every engine takes the others like this.
    """
    endpoints = (body.get("NetworkingConfig") or {}).get("EndpointsConfig") or {}
    return [(network, endpoints.get(network) or {}) for network in networks[1:]]


def _place(spec: StepSpec, path: str) -> Path:
    return Path(spec.working_directory or spec.directory) / path


def _resolve(entry: str, env: Mapping[str, str]) -> str:
    """`-e NAME` takes the value that the step's environment has; without one the engine drops the name."""
    return f"{entry}={env[entry]}" if "=" not in entry and entry in env else entry


def _absolute(bind: str, spec: StepSpec) -> str:
    source, colon, rest = bind.partition(":")
    if colon and source.split("/", 1)[0] in (".", ".."):
        return f"{_place(spec, source).resolve()}:{rest}"
    return bind


def _text(path: Path, what: str) -> str:
    try:
        return path.read_text(encoding="utf-8-sig")
    except OSError as error:
        raise StartRefused(f"{what} {path}: {error.strerror}") from None
    except UnicodeDecodeError:
        raise StartRefused(f"{what} {path}: not UTF-8") from None


def read_assignments(path: Path, env: Mapping[str, str] | None) -> list[str]:
    """A `--env-file` or (`env` None) `--label-file` as the docker client reads it. Raises StartRefused.

    One assignment a line, taken literally: no quotes, no escapes. `#` begins a comment line; a name alone takes its
    value from the environment, or is left out.
    """
    what = "label file" if env is None else "environment file"
    found = []
    for number, raw in enumerate(_text(path, what).splitlines(), 1):
        line = raw.lstrip()
        if not line or line.startswith("#"):
            continue
        name, equals, _ = line.partition("=")
        if not name or name != "".join(name.split()):
            problem = "the name is empty" if not name else f"the name {name!r} contains blanks"
            raise StartRefused(f"{what} {path}:{number}: {problem}; expected NAME=value")
        if equals or env is None:
            found.append(line)
        elif name in env:
            found.append(f"{name}={env[name]}")
    return found


def secrets_archive(secrets: Mapping[str, str]) -> bytes:
    """A tar of secrets: target (an absolute path, or a name under /run/secrets) -> content, readable to all inside."""
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w") as archive:
        for target, content in secrets.items():
            data = content.encode()
            entry = tarfile.TarInfo(target.lstrip("/") if target.startswith("/") else f"run/secrets/{target}")
            entry.size = len(data)
            entry.mode = 0o444
            archive.addfile(entry, io.BytesIO(data))
    return buffer.getvalue()
