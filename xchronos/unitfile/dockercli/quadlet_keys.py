"""What each key of `[Container]` does; `quadlet` puts the results together."""

import json

from xchronos.errors import InvalidValue
from xchronos.unitfile.directives.scalars import parse_bool
from xchronos.unitfile.dockercli.devices import is_cdi, parse_device
from xchronos.unitfile.dockercli.flags import parse_flags
from xchronos.unitfile.dockercli.network import Attachment
from xchronos.unitfile.dockercli.ports import expose, publish
from xchronos.unitfile.dockercli.quadlet_draft import Draft, Rule, Secret
from xchronos.unitfile.dockercli.references import check_image
from xchronos.unitfile.dockercli.runflags import RUN
from xchronos.unitfile.dockercli.sandbox import MASKED_PATHS, READONLY_PATHS
from xchronos.unitfile.dockercli.values import csv_fields, parse_mac
from xchronos.unitfile.words import Escapes, split_words

_OTHER_UNITS = (".volume", ".network", ".image", ".build", ".pod", ".container")
_PODMAN_NETWORKS = frozenset(("pasta", "slirp4netns", "private", "ns"))
_DRIVERS = {"k8s-file": "json-file"}
_DRIVER_GONE = frozenset(("passthrough", "passthrough-tty"))


def _option(name: str) -> Rule:
    """One value is one value of an option."""

    def apply(draft: Draft, value: str) -> None:
        draft.set(name, value)

    return Rule(apply, RUN.long[name].kind == "many")


def _words(name: str) -> Rule:
    """Every word is one value of a repeatable option; quotes and escapes as in Exec lines."""

    def apply(draft: Draft, value: str) -> None:
        for word in split_words(value, Escapes.KEEP_UNKNOWN):
            draft.set(name, word)

    return Rule(apply, many=True)


def _flag(name: str) -> Rule:
    def apply(draft: Draft, value: str) -> None:
        draft.values[name] = parse_bool(value)

    return Rule(apply)


def _security(word: str) -> Rule:
    """A boolean that stands for one security option."""

    def apply(draft: Draft, value: str) -> None:
        if parse_bool(value):
            draft.set("security-opt", word)

    return Rule(apply)


def _security_value(prefix: str) -> Rule:
    def apply(draft: Draft, value: str) -> None:
        draft.set("security-opt", prefix + value)

    return Rule(apply)


def _no_other_unit(name: str) -> None:
    if name.endswith(_OTHER_UNITS):
        kind = name.rpartition(".")[2]
        raise InvalidValue(f"{name!r}: there are no .{kind} units here; expected the name of the {kind} itself")


def _image(draft: Draft, value: str) -> None:
    _no_other_unit(value)
    draft.image = check_image(value)


def _exec(draft: Draft, value: str) -> None:
    draft.command = split_words(value, Escapes.KEEP_UNKNOWN)


def _json_words(value: str) -> list[str] | None:
    """The words of a JSON list of strings; None when the value is not meant as one."""
    if not value.startswith("["):
        return None
    try:
        words = json.loads(value)
    except ValueError as error:
        raise InvalidValue(f"{value!r} is not a JSON list: {error}") from None
    if not words or not all(isinstance(word, str) for word in words):
        raise InvalidValue(f"{value!r}: expected a JSON list of strings")
    return list(words)


def _entrypoint(draft: Draft, value: str) -> None:
    draft.entrypoint = _json_words(value) or [value]


def _env_file(draft: Draft, value: str) -> None:
    draft.set("env-file", value)


def _env_host(_draft: Draft, value: str) -> None:
    if parse_bool(value):
        raise InvalidValue("a daemon's environment is not for containers; name what is needed in Environment=")


def _volume(draft: Draft, value: str) -> None:
    source = value.partition(":")[0]
    if ":" in value:
        _no_other_unit(source)
        if source.startswith((".", "~")):
            raise InvalidValue(f"{value!r} begins with a relative host path, expected an absolute one")
    draft.set("volume", value)


_PODMAN_MOUNTS = frozenset(("glob", "ramfs", "devpts", "artifact"))


def _mount(draft: Draft, value: str) -> None:
    for field in csv_fields(value):
        key, _, text = field.partition("=")
        if key == "type" and text in _PODMAN_MOUNTS:
            raise InvalidValue(f"mount type {text!r} is podman's alone, expected bind, volume, tmpfs or image")
        if key in {"src", "source"}:
            _no_other_unit(text)
    draft.set("mount", value)


def _network(draft: Draft, value: str) -> None:
    """`host`, `none`, `bridge`, `container:name` or a name; behind a colon `ip=`, `ip6=`, `mac=`, `alias=`."""
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


def _user_namespace(draft: Draft, value: str) -> None:
    if value != "host":
        raise InvalidValue(f"{value!r}: user namespaces are a setting of the engine, expected host")
    draft.set("userns", value)


def _group(draft: Draft, value: str) -> None:
    draft.group = value


def _group_add(draft: Draft, value: str) -> None:
    if value == "keep-groups":
        raise InvalidValue("keep-groups is podman's alone, expected a group")
    draft.set("group-add", value)


def _pull(draft: Draft, value: str) -> None:
    if value == "newer":
        draft.warnings.append("newer is podman's alone, read as always")
        value = "always"
    draft.set("pull", value)


def _read_only_tmpfs(draft: Draft, value: str) -> None:
    draft.read_only_tmpfs = parse_bool(value)


def _volatile_tmp(draft: Draft, value: str) -> None:
    if parse_bool(value):
        draft.set("tmpfs", "/tmp:rw,size=512M,mode=1777")  # noqa: S108 - a path in the container


def _device(draft: Draft, value: str) -> None:
    if value.startswith("-"):
        draft.optional_devices.append(parse_device(value[1:]))
    else:
        if not is_cdi(value):
            parse_device(value)
        draft.set("device", value)


def _publish(draft: Draft, value: str) -> None:
    publish([value])
    draft.set("publish", value)


def _expose(draft: Draft, value: str) -> None:
    expose([value], {})
    draft.set("expose", value)


def _seccomp(draft: Draft, value: str) -> None:
    if value == "unconfined":
        draft.set("security-opt", "seccomp=unconfined")
    else:
        draft.seccomp_profile = value


def _log_driver(draft: Draft, value: str) -> None:
    if value in _DRIVER_GONE:
        raise InvalidValue(f"{value!r} is podman's alone, expected a log driver of the engine such as journald")
    if value in _DRIVERS:
        draft.warnings.append(f"{value} is podman's alone, read as {_DRIVERS[value]}")
    draft.set("log-driver", _DRIVERS.get(value, value))


def _health_command(draft: Draft, value: str) -> None:
    if value == "none":
        draft.health_test = ["NONE"]
        return
    words = _json_words(value)
    draft.health_test = ["CMD-SHELL", value] if words is None else ["CMD", *words]


def _health_interval(draft: Draft, value: str) -> None:
    if value == "disable":
        draft.warnings.append("the engine has no interval without checks; use HealthCmd=none to turn them off")
    else:
        draft.set("health-interval", value)


def _health_failure(draft: Draft, value: str) -> None:
    if value not in {"none", "kill", "restart", "stop"}:
        raise InvalidValue(f"{value!r}: expected none, kill, restart or stop")
    if value != "none":
        draft.warnings.append("the engine only reports a failing health check, nothing is done about it")


def _secret(draft: Draft, value: str) -> None:
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


def _timezone(draft: Draft, value: str) -> None:
    if value == "local":
        draft.warnings.append("local: machines may differ, so nothing is set; expected a zone such as Europe/Berlin")
    else:
        draft.set("env", f"TZ={value}")


def _mask(draft: Draft, value: str) -> None:
    if draft.masked is None:
        draft.masked = list(MASKED_PATHS)
    draft.masked.extend(path for path in value.split(":") if path not in draft.masked)


def _unmask(draft: Draft, value: str) -> None:
    paths = value.split(":")
    for attribute, defaults in (("masked", MASKED_PATHS), ("unmasked_readonly", READONLY_PATHS)):
        kept: list[str] | None = getattr(draft, attribute)
        now = list(defaults) if kept is None else kept
        setattr(draft, attribute, [] if "ALL" in paths else [path for path in now if path not in paths])


def _more_options(draft: Draft, value: str) -> None:
    """`PodmanArgs=`: options of `docker run`, read by its own table."""
    parsed = parse_flags(RUN, split_words(value, Escapes.KEEP_UNKNOWN))
    if parsed.words:
        raise InvalidValue(f"{parsed.words[0]!r} is no option of docker run")
    draft.warnings.extend(parsed.warnings)
    for name, given in parsed.values.items():
        if isinstance(given, list):
            draft.values.setdefault(name, []).extend(given)
        else:
            draft.values[name] = given


KEYS: dict[str, Rule] = {
    "AddCapability": _words("cap-add"),
    "AddDevice": Rule(_device, many=True),
    "AddHost": _option("add-host"),
    "Annotation": _words("annotation"),
    "AppArmor": _security_value("apparmor="),
    "CPUs": _option("cpus"),
    "ContainerName": _option("name"),
    "DNS": _option("dns"),
    "DNSOption": _option("dns-option"),
    "DNSSearch": _option("dns-search"),
    "DropCapability": _words("cap-drop"),
    "Entrypoint": Rule(_entrypoint),
    "Environment": _words("env"),
    "EnvironmentFile": Rule(_env_file, many=True),
    "EnvironmentHost": Rule(_env_host),
    "Exec": Rule(_exec),
    "ExposeHostPort": Rule(_expose, many=True),
    "GPUs": _option("gpus"),
    "Group": Rule(_group),
    "GroupAdd": Rule(_group_add, many=True),
    "HealthCmd": Rule(_health_command),
    "HealthInterval": Rule(_health_interval),
    "HealthOnFailure": Rule(_health_failure),
    "HealthRetries": _option("health-retries"),
    "HealthStartPeriod": _option("health-start-period"),
    "HealthTimeout": _option("health-timeout"),
    "HostName": _option("hostname"),
    "IP": _option("ip"),
    "IP6": _option("ip6"),
    "Image": Rule(_image),
    "Label": _words("label"),
    "LogDriver": Rule(_log_driver),
    "LogOpt": _option("log-opt"),
    "Mask": Rule(_mask, many=True),
    "Memory": _option("memory"),
    "MemorySwap": _option("memory-swap"),
    "Mount": Rule(_mount, many=True),
    "Network": Rule(_network, many=True),
    "NetworkAlias": _option("network-alias"),
    "NoNewPrivileges": _security("no-new-privileges"),
    "PidsLimit": _option("pids-limit"),
    "Platform": _option("platform"),
    "PodmanArgs": Rule(_more_options, many=True),
    "Privileged": _flag("privileged"),
    "PublishPort": Rule(_publish, many=True),
    "Pull": Rule(_pull),
    "ReadOnly": _flag("read-only"),
    "ReadOnlyTmpfs": Rule(_read_only_tmpfs),
    "RunInit": _flag("init"),
    "SeccompProfile": Rule(_seccomp),
    "Secret": Rule(_secret, many=True),
    "SecurityLabelDisable": _security("label=disable"),
    "SecurityLabelFileType": _security_value("label=filetype:"),
    "SecurityLabelLevel": _security_value("label=level:"),
    "SecurityLabelNested": _security("label=nested"),
    "SecurityLabelType": _security_value("label=type:"),
    "ShmSize": _option("shm-size"),
    "StopSignal": _option("stop-signal"),
    "StopTimeout": _option("stop-timeout"),
    "Sysctl": _words("sysctl"),
    "Timezone": Rule(_timezone),
    "Tmpfs": _option("tmpfs"),
    "Ulimit": _option("ulimit"),
    "Unmask": Rule(_unmask, many=True),
    "User": _option("user"),
    "UserNS": Rule(_user_namespace),
    "VolatileTmp": Rule(_volatile_tmp),
    "Volume": Rule(_volume, many=True),
    "WorkingDir": _option("workdir"),
}
"""The keys that do something."""

_UPDATES = "use Pull=always to run the newest image"
_HEALTH = "the engine has only HealthCmd, HealthInterval, HealthRetries, HealthStartPeriod and HealthTimeout"
WARNINGS: dict[str, str] = {
    "AutoUpdate": _UPDATES,
    "CgroupsMode": "the engine decides about cgroups",
    "ContainersConfModule": "it configures podman",
    "HttpProxy": "proxy variables are set with Environment=",
    "Notify": "readiness is not waited for",
    "ReloadCmd": "there is nothing to reload a batch job for",
    "ReloadSignal": "there is nothing to reload a batch job for",
    "Retry": "pulls are retried by the machine",
    "RetryDelay": "pulls are retried by the machine",
    "ServiceName": "the unit's own name is used",
    "StartWithPod": "there are no pods",
    **dict.fromkeys(
        (
            "HealthLogDestination", "HealthMaxLogCount", "HealthMaxLogSize", "HealthStartupCmd",
            "HealthStartupInterval", "HealthStartupRetries", "HealthStartupSuccess", "HealthStartupTimeout",
        ),
        _HEALTH,
    ),
}  # fmt: skip
"""Keys of quadlet that are accepted and do nothing, and why."""

_USERS = "user namespaces are a setting of the engine"
ERRORS: dict[str, str] = {
    "GlobalArgs": "they change podman itself; options of docker run go into PodmanArgs=",
    "Pod": "there are no pods; use Network=container:<name> to share a network",
    "Rootfs": "the engine runs images only; import the directory as one and name it in Image=",
    **dict.fromkeys(("GIDMap", "RemapGid", "RemapUid", "RemapUidSize", "RemapUsers"), _USERS),
    **dict.fromkeys(("SubGIDMap", "SubUIDMap", "UIDMap"), _USERS),
}  # fmt: skip
"""Keys of quadlet that cannot be honoured, and what to do instead."""
