"""The rules that read the values of `[Container]`.

The module `keys` says which rule reads which key, and `container` puts the results together. A rule raises InvalidValue
for a value that it cannot read or that cannot be honoured. The functions that return a `Rule` serve several keys.
"""

import json

from xchronos.dockercli.flags import parse_flags
from xchronos.dockercli.options.devices import is_cdi, parse_device
from xchronos.dockercli.options.network import Attachment
from xchronos.dockercli.options.ports import exposed_range, published
from xchronos.dockercli.options.sandbox import MASKED_PATHS, READONLY_PATHS
from xchronos.dockercli.quadlet.draft import ContainerDraft, Form, Rule, Secret
from xchronos.dockercli.references import check_image
from xchronos.dockercli.runflags import RUN
from xchronos.dockercli.values import csv_fields, parse_mac
from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.scalars import parse_bool
from xchronos.unitfile.environment import is_valid_variable

_OTHER_UNITS = (".volume", ".network", ".image", ".build", ".pod", ".container")
_PODMAN_NETWORKS = frozenset(("pasta", "slirp4netns", "private", "ns"))
_DRIVERS = {"k8s-file": "json-file"}
_DRIVER_GONE = frozenset(("passthrough", "passthrough-tty"))


def option(name: str, form: Form = Form.TEXT) -> Rule:
    """Each value is one value of the option `name` of `docker run`."""

    def apply(draft: ContainerDraft, value: str) -> None:
        draft.set(name, value)

    return Rule(apply, form)


def flag(name: str) -> Rule:
    """The value is a boolean, for the option `name`."""

    def apply(draft: ContainerDraft, value: str) -> None:
        draft.values[name] = parse_bool(value)

    return Rule(apply, Form.SWITCH)


def security(word: str) -> Rule:
    """The value is a boolean. If it is true, `word` is added to the security options."""

    def apply(draft: ContainerDraft, value: str) -> None:
        if parse_bool(value):
            draft.set("security-opt", word)

    return Rule(apply, Form.SWITCH)


def security_value(prefix: str) -> Rule:
    """The value, with `prefix` before it, is one security option."""

    def apply(draft: ContainerDraft, value: str) -> None:
        draft.set("security-opt", prefix + value)

    return Rule(apply, joined=True)


def _no_other_unit(name: str) -> None:
    if name.endswith(_OTHER_UNITS):
        kind = name.rpartition(".")[2]
        raise InvalidValue(f"{name!r}: there are no .{kind} units here; expected the name of the {kind} itself")


def image(draft: ContainerDraft, value: str) -> None:
    """`Image=`: a reference to an image."""
    _no_other_unit(value)
    draft.image = check_image(value)


def command(draft: ContainerDraft, words: list[str]) -> None:
    """`Exec=`: the words of the command."""
    draft.command = words


def _json_words(value: str) -> list[str] | None:
    """The words of a JSON list of strings. None if the value does not begin with `[`."""
    if not value.startswith("["):
        return None
    try:
        words = json.loads(value)
    except ValueError as error:
        raise InvalidValue(f"{value!r} is not a JSON list: {error}") from None
    if not words or not all(isinstance(word, str) for word in words):
        raise InvalidValue(f"{value!r}: expected a JSON list of strings")
    return list(words)


def entrypoint(draft: ContainerDraft, value: str) -> None:
    """`Entrypoint=`: one program, or a JSON list of words."""
    draft.entrypoint = _json_words(value) or [value]


def no_entrypoint(draft: ContainerDraft) -> None:
    """`Entrypoint=` without a value: not even the image's own. The engine's word for that is one empty word."""
    draft.entrypoint = [""]


def environment(draft: ContainerDraft, word: str) -> None:
    """`Environment=`: one variable. What systemd would drop in [Service] gives the same warning here."""
    name, equals, _ = word.partition("=")
    if not equals:
        draft.warnings.append(f"{word!r} is no assignment: expected NAME=value, quoted if it holds blanks")
    elif not is_valid_variable(name):
        draft.warnings.append(
            f"{name!r} is no name that a shell reads: expected letters, digits and '_', no digit first"
        )
    draft.set("env", word)


def env_host(_draft: ContainerDraft, value: str) -> None:
    """`EnvironmentHost=`: only false is accepted."""
    if parse_bool(value):
        raise InvalidValue("a daemon's environment is not for containers; name what is needed in Environment=")


def volume(draft: ContainerDraft, value: str) -> None:
    """`Volume=`: a value of `docker run -v`. Its source may not be a unit or a relative path."""
    source = value.partition(":")[0]
    if ":" in value:
        _no_other_unit(source)
        if source.startswith((".", "~")):
            raise InvalidValue(f"{value!r} begins with a relative host path, expected an absolute one")
    draft.set("volume", value)


_WITH_SOURCE = frozenset(("bind", "image"))
_PODMAN_MOUNTS = frozenset(("glob", "ramfs", "devpts", "artifact"))


def mount(draft: ContainerDraft, value: str) -> None:
    """`Mount=`: a value of `docker run --mount`. The mount types that only podman has are refused.

    So is a bind or an image without a source, which nothing could be mounted from.
    """
    kind, source = "volume", ""
    for field in csv_fields(value):
        key, _, text = field.partition("=")
        if key == "type":
            kind = text
        elif key in {"src", "source"}:
            source = text
            _no_other_unit(text)
    if kind in _PODMAN_MOUNTS:
        raise InvalidValue(f"mount type {kind!r} is podman's alone, expected bind, volume, tmpfs or image")
    draft.set("mount", value)
    if not source and kind in _WITH_SOURCE:
        raise InvalidValue(f"a mount of type {kind} has no source: expected source=...")


def network(draft: ContainerDraft, value: str) -> None:
    """`Network=`: `host`, `none`, `bridge`, `container:name` or a name.

    A name may be followed by a colon and a list of `ip=`, `ip6=`, `mac=` and `alias=`, separated by commas.
    """
    name, colon, settings = value.partition(":")
    _no_other_unit(name)
    if name in _PODMAN_NETWORKS:
        raise InvalidValue(f"{value!r} is podman's alone, expected none, host, bridge, container:<name> or a network")
    network = Attachment(value if name == "container" else name)
    if colon and name != "container":
        network.aliases = []
        for field in settings.split(","):
            key, _, text = field.partition("=")
            if key == "ip":
                network.ipv4 = text
            elif key == "ip6":
                network.ipv6 = text
            elif key == "mac":
                network.mac = parse_mac(text)
            elif key == "alias":
                network.aliases.append(text)
            else:
                raise InvalidValue(f"{field!r}: expected ip=, ip6=, mac= or alias= behind the network's name")
    draft.values.setdefault("network", []).append(network)


def user_namespace(draft: ContainerDraft, value: str) -> None:
    """`UserNS=`: only `host`, because the engine has no other per container."""
    if value != "host":
        raise InvalidValue(f"{value!r}: user namespaces are a setting of the engine, expected host")
    draft.set("userns", value)


def group(draft: ContainerDraft, value: str) -> None:
    """`Group=`: the group, which is appended to the user at the end."""
    draft.group = value


def group_add(draft: ContainerDraft, value: str) -> None:
    """`GroupAdd=`: one more group for the process."""
    if value == "keep-groups":
        raise InvalidValue("keep-groups is podman's alone, expected a group")
    draft.set("group-add", value)


def pull(draft: ContainerDraft, value: str) -> None:
    """`Pull=`: when the image is pulled. podman's `newer` is read as `always`."""
    if value == "newer":
        draft.warnings.append("newer is podman's alone, read as always")
        value = "always"
    draft.set("pull", value)


def read_only_tmpfs(draft: ContainerDraft, value: str) -> None:
    """`ReadOnlyTmpfs=`: whether /run, /tmp and /var/tmp stay writable if the root file system is read-only."""
    draft.read_only_tmpfs = parse_bool(value)


def volatile_tmp(draft: ContainerDraft, value: str) -> None:
    """`VolatileTmp=`: whether /tmp is in memory."""
    if parse_bool(value):
        draft.set("tmpfs", "/tmp:rw,size=512M,mode=1777")  # noqa: S108 - a path in the container


def device(draft: ContainerDraft, value: str) -> None:
    """`AddDevice=`: a device. After a `-`, it is added only on a machine that has it."""
    if value.startswith("-"):
        draft.optional_devices.append(parse_device(value[1:]))
    else:
        if not is_cdi(value):
            parse_device(value)
        draft.set("device", value)


def publish_port(draft: ContainerDraft, value: str) -> None:
    """`PublishPort=`: a port of the machine that leads to one of the container."""
    published(value)
    draft.set("publish", value)


def expose_port(draft: ContainerDraft, value: str) -> None:
    """`ExposeHostPort=`: ports that the container listens on."""
    exposed_range(value)
    draft.set("expose", value)


def seccomp(draft: ContainerDraft, value: str) -> None:
    """`SeccompProfile=`: `unconfined`, or the path of a file on the machine."""
    if value == "unconfined":
        draft.set("security-opt", "seccomp=unconfined")
    else:
        draft.seccomp_profile = value


def log_driver(draft: ContainerDraft, value: str) -> None:
    """`LogDriver=`: a log driver of the engine. podman's own drivers are replaced with a warning, or refused."""
    if value in _DRIVER_GONE:
        raise InvalidValue(f"{value!r} is podman's alone, expected a log driver of the engine such as journald")
    if value in _DRIVERS:
        draft.warnings.append(f"{value} is podman's alone, read as {_DRIVERS[value]}")
    draft.set("log-driver", _DRIVERS.get(value, value))


def health_command(draft: ContainerDraft, value: str) -> None:
    """`HealthCmd=`: a line for the shell, or a JSON list of words; or in Docker's words `CMD`, `CMD-SHELL`, `NONE`.

    The keyword may have any case, and may stand before a line or in a list, as podman reads it.
    """
    words = _json_words(value)
    keyword, _, line = value.partition(" ") if words is None else (words[0], "", "")
    match keyword.upper():
        case "NONE":
            draft.health_test = ["NONE"]
        case "CMD" | "CMD-SHELL" as kind:
            test = words[1:] if words is not None else line.split() if kind == "CMD" else [line.strip()]
            if not test or not test[0]:
                raise InvalidValue(f"{value!r}: {keyword} without a command")
            draft.health_test = [kind, *test]
        case _ if words is not None and len(words) > 1:
            draft.health_test = ["CMD", *words]
        case _:
            draft.health_test = ["CMD-SHELL", words[0] if words is not None else value]


def health_interval(draft: ContainerDraft, value: str) -> None:
    """`HealthInterval=`: the time between two checks."""
    if value == "disable":
        draft.warnings.append("the engine has no interval without checks; use HealthCmd=none to turn them off")
    else:
        draft.set("health-interval", value)


def health_failure(draft: ContainerDraft, value: str) -> None:
    """`HealthOnFailure=`: every value except `none` gives a warning, because the engine only reports failures."""
    if value not in {"none", "kill", "restart", "stop"}:
        raise InvalidValue(f"{value!r}: expected none, kill, restart or stop")
    if value != "none":
        draft.warnings.append("the engine only reports a failing health check, nothing is done about it")


def secret(draft: ContainerDraft, value: str) -> None:
    """`Secret=`: a file of the machine's secrets, which is mounted or becomes a variable."""
    name, _, rest = value.partition(",")
    kind, target = "mount", ""
    for field in rest.split(",") if rest else ():
        key, _, text = field.partition("=")
        if key == "type" and text in {"mount", "env"}:
            kind = text
        elif key == "target" and text:
            target = text
        elif key in {"uid", "gid", "mode"}:
            draft.warnings.append(f"{field}: the file keeps the owner and mode it has on the machine")
        else:
            raise InvalidValue(f"{field!r}: expected type=mount, type=env or target=...")
    if not name or "/" in name or name in {".", ".."}:
        raise InvalidValue(f"{name!r} is not the name of a secret")
    if kind == "mount" and not target.startswith("/"):
        target = f"/run/secrets/{target or name}"
    draft.secrets.append(Secret(name, kind, target or name))


def timezone(draft: ContainerDraft, value: str) -> None:
    """`Timezone=`: the variable `TZ` of the container."""
    if value == "local":
        draft.warnings.append("local: machines may differ, so nothing is set; expected a zone such as Europe/Berlin")
    else:
        draft.set("env", f"TZ={value}")


def mask(draft: ContainerDraft, value: str) -> None:
    """`Mask=`: paths, separated by colons, that are hidden from the container beside the engine's own."""
    if draft.masked is None:
        draft.masked = list(MASKED_PATHS)
    draft.masked.extend(path for path in value.split(":") if path not in draft.masked)


def unmask(draft: ContainerDraft, value: str) -> None:
    """`Unmask=`: paths, separated by colons, that are neither hidden nor read-only, or ALL in any case."""
    paths = value.split(":")
    everything = any(path.upper() == "ALL" for path in paths)
    for attribute, defaults in (("masked", MASKED_PATHS), ("unmasked_readonly", READONLY_PATHS)):
        kept: list[str] | None = getattr(draft, attribute)
        now = list(defaults) if kept is None else kept
        setattr(draft, attribute, [] if everything else [path for path in now if path not in paths])


_NOT_THE_CONTAINERS = {
    "rm": "the container is removed after its attempt in any case",
    "restart": "Restart= of [Service] says whether the unit tries again",
    "detach": "a step lasts as long as its container",
    "quiet": "the pull of an image is always told",
    "cidfile": "the container is found by ContainerName=",
    "attach": "",
    "interactive": "",
    "detach-keys": "",
    "sig-proxy": "",
}
"""Options of docker run that are about the docker client, and why they have no effect in PodmanArgs=.

Those without a reason here have one in the table of options, or are what happens anyway.
"""


_NO_RESTART = {"Name": "no", "MaximumRetryCount": 0}


def more_options(draft: ContainerDraft, words: list[str]) -> None:
    """`PodmanArgs=`: options of `docker run`, read as on its command line."""
    parsed = parse_flags(RUN, words)
    if parsed.words:
        raise InvalidValue(f"{parsed.words[0]!r} is no option of docker run")
    draft.warnings.extend(parsed.warnings)
    for name, given in parsed.values.items():
        if name in _NOT_THE_CONTAINERS:
            reason = _NOT_THE_CONTAINERS[name]
            if reason and given not in (False, _NO_RESTART):
                draft.warnings.append(f"--{name}: no effect: {reason}")
            continue
        if isinstance(given, list):
            draft.values.setdefault(name, []).extend(given)
        else:
            draft.values[name] = given
