"""`--mount`, `--volume` and `--tmpfs` values."""

from collections.abc import Iterable
from typing import Any

from xchronos.dockercli.values import csv_fields, key_values, parse_bool, parse_size
from xchronos.errors import InvalidValue

_WITHOUT_VALUE = ("readonly", "ro", "volume-nocopy", "bind-nonrecursive")
_KEYS = (
    "type", "source", "src", "target", "dst", "destination", "readonly", "ro", "consistency", "bind-propagation",
    "bind-nonrecursive", "bind-recursive", "volume-nocopy", "volume-label", "volume-driver", "volume-opt",
    "volume-subpath", "image-subpath", "tmpfs-size", "tmpfs-mode",
)  # fmt: skip


def parse_mount(text: str) -> dict[str, Any]:
    """One entry of `HostConfig.Mounts`. The value of `--mount` is a CSV record of `key=value` fields."""
    simple: dict[str, Any] = {"type": "volume"}
    maps: dict[str, list[str]] = {}
    for field in csv_fields(text):
        name, equals, value = field.partition("=")
        key = name.lower()
        if not equals:
            if key not in _WITHOUT_VALUE:
                raise InvalidValue(f"invalid field {field!r}, expected key=value")
            simple[key] = True
        elif key not in _KEYS:
            raise InvalidValue(f"unexpected key {name!r} in {field!r}, expected one of {', '.join(_KEYS)}")
        elif key in _WITHOUT_VALUE:
            simple[key] = _of_field(parse_bool, key, value)
        elif key in {"volume-label", "volume-opt"}:
            maps.setdefault(key, []).append(value)
        else:
            simple[_SYNONYMS.get(key, key)] = value
    return _mount(simple, maps)


_SYNONYMS = {"src": "source", "dst": "target", "destination": "target"}


def _of_field(parse: Any, key: str, value: str) -> Any:
    try:
        return parse(value)
    except InvalidValue as error:
        raise InvalidValue(f"invalid value for {key}: {error}") from None


def _mount(simple: dict[str, Any], maps: dict[str, list[str]]) -> dict[str, Any]:
    kind = simple["type"].lower()
    if not kind:
        raise InvalidValue("type is required: bind, volume, tmpfs or image")
    if not simple.get("target"):
        raise InvalidValue("target is required: the path in the container")
    for owner in ("bind", "volume", "tmpfs", "image"):
        if owner != kind and any(key.startswith(owner + "-") for key in (*simple, *maps)):
            raise InvalidValue(f"cannot mix '{owner}-*' options with mount type {kind!r}")
    mount: dict[str, Any] = {"Type": kind}
    if simple.get("source"):
        mount["Source"] = simple["source"]
    mount["Target"] = simple["target"]
    read_only = bool(simple.get("readonly") or simple.get("ro"))
    if read_only:
        mount["ReadOnly"] = True
    if simple.get("consistency"):
        mount["Consistency"] = simple["consistency"].lower()
    options = _OPTIONS.get(kind)
    if options is not None and any(key.startswith(kind + "-") for key in (*simple, *maps)):
        name, build = options
        mount[name] = build(simple, maps, read_only)
    return mount


def _bind(simple: dict[str, Any], _maps: dict[str, list[str]], read_only: bool) -> dict[str, Any]:
    bind: dict[str, Any] = {}
    propagation = simple.get("bind-propagation", "").lower()
    if propagation:
        bind["Propagation"] = propagation
    recursive = simple.get("bind-recursive", "enabled")
    if simple.get("bind-nonrecursive") or recursive == "disabled":
        bind["NonRecursive"] = True
    if recursive in {"writable", "readonly"}:
        if not read_only:
            raise InvalidValue(f"'bind-recursive={recursive}' requires 'readonly'")
        if recursive == "readonly" and propagation != "rprivate":
            raise InvalidValue("'bind-recursive=readonly' requires 'bind-propagation=rprivate'")
        bind["ReadOnlyNonRecursive" if recursive == "writable" else "ReadOnlyForceRecursive"] = True
    elif recursive not in {"enabled", "disabled"}:
        raise InvalidValue(
            f"invalid value for bind-recursive: {recursive!r}, expected enabled, disabled, writable or readonly"
        )
    return bind


def _volume(simple: dict[str, Any], maps: dict[str, list[str]], _read_only: bool) -> dict[str, Any]:
    volume: dict[str, Any] = {}
    if simple.get("volume-nocopy"):
        volume["NoCopy"] = True
    if "volume-label" in maps:
        volume["Labels"] = key_values(maps["volume-label"])
    if simple.get("volume-subpath"):
        volume["Subpath"] = simple["volume-subpath"]
    driver: dict[str, Any] = {}
    if simple.get("volume-driver"):
        driver["Name"] = simple["volume-driver"]
    if "volume-opt" in maps:
        driver["Options"] = key_values(maps["volume-opt"])
    volume["DriverConfig"] = driver
    return volume


def _tmpfs(simple: dict[str, Any], _maps: dict[str, list[str]], _read_only: bool) -> dict[str, Any]:
    tmpfs: dict[str, Any] = {}
    size = _of_field(parse_size, "tmpfs-size", simple.get("tmpfs-size", "0"))
    if size:
        tmpfs["SizeBytes"] = size
    mode = _of_field(_octal, "tmpfs-mode", simple.get("tmpfs-mode", "0"))
    if mode:
        tmpfs["Mode"] = mode
    return tmpfs


def _octal(text: str) -> int:
    if not text or text.strip("01234567") or int(text, 8) >= 1 << 32:
        raise InvalidValue(f"{text!r} is not a mode, expected octal digits such as 1777")
    return int(text, 8)


def _image(simple: dict[str, Any], _maps: dict[str, list[str]], _read_only: bool) -> dict[str, Any]:
    return {"Subpath": simple["image-subpath"]} if simple["image-subpath"] else {}


_OPTIONS = {
    "bind": ("BindOptions", _bind),
    "volume": ("VolumeOptions", _volume),
    "tmpfs": ("TmpfsOptions", _tmpfs),
    "image": ("ImageOptions", _image),
}


def split_volumes(specs: Iterable[str]) -> tuple[list[str], dict[str, dict[str, str]]]:
    """(Binds, Volumes) for the values of `--volume`.

    `source:path[:options]` is a bind, and a path alone is an anonymous volume. As in the docker client, a single letter
    before the first colon is read as a Windows drive.
    """
    binds: dict[str, None] = {}
    volumes: dict[str, dict[str, str]] = {}
    for spec in specs:
        colon = spec.find(":")
        if colon == 1 and spec[0].isalpha():
            colon = spec.find(":", 2)
        if colon > 0 and len(spec.encode("utf-8", "surrogateescape")) > 2:
            binds[spec] = None
        else:
            volumes[spec] = {}
    return list(binds), volumes


def parse_tmpfs(specs: Iterable[str]) -> dict[str, str]:
    """`HostConfig.Tmpfs` for the values `path[:options]` of `--tmpfs`."""
    return {path: options for path, _, options in (spec.partition(":") for spec in specs)}
