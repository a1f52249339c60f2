"""The verbs for volumes and images, the listings, `inspect` and `prune`."""

import json
from collections.abc import Mapping, Sequence

from xchronos.dockercli import commands
from xchronos.dockercli.containers import Verb, names
from xchronos.dockercli.flags import Flag, FlagTable, parse_flags, table
from xchronos.dockercli.netverbs import NETWORK_VERBS, option_pair
from xchronos.dockercli.references import has_tag, parse_platform, split_image
from xchronos.dockercli.runflags import NO_SIGNATURES
from xchronos.dockercli.templates import parse_template
from xchronos.dockercli.values import key_values, parse_int, parse_label
from xchronos.errors import InvalidValue

_TEMPLATE = (
    "templates of listings are not evaluated here; leave --format out and read the JSON, or use docker inspect -f"
)


def _template(text: str) -> str:
    parse_template(text)
    return text


_FORCE = Flag("force", "f", "bool")


def _filter(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not equals:
        raise InvalidValue(f"invalid filter {text!r}, expected name=value")
    return name.strip().lower(), value.strip()


_FILTER = Flag("filter", "f", "many", _filter)
_LONG_FILTER = Flag("filter", "", "many", _filter)


def filters_text(pairs: Sequence[tuple[str, str]]) -> str:
    """The `filters` parameter of the Engine API: a JSON object of lists of values. Empty without filters."""
    by_name: dict[str, list[str]] = {}
    for name, value in pairs:
        by_name.setdefault(name, []).append(value)
    return json.dumps(by_name, sort_keys=True, separators=(",", ":")) if by_name else ""


# Volumes

_CLUSTER = "cluster volumes need a swarm; create a local volume or one of a volume plugin with --driver"
_VOLUME_CREATE = table(
    "volume create",
    (
        Flag("driver", "d"),
        Flag("label", "", "many", parse_label),
        Flag("opt", "o", "many", option_pair),
        Flag("name"),
        *(
            Flag(name, refuse=_CLUSTER)
            for name in (
                "availability", "group", "limit-bytes", "required-bytes", "scope", "secret", "sharing",
                "topology-preferred", "topology-required", "type",
            )
        ),
    ),
)  # fmt: skip
_VOLUME_RM = table("volume rm", (_FORCE,))


def _volume_create(words: Sequence[str], _env: Mapping[str, str]) -> commands.VolumeCreate:
    parsed = parse_flags(_VOLUME_CREATE, words)
    given = names(parsed, "volume create", 0, 1)
    if given and parsed.get("name"):
        raise InvalidValue("docker volume create: conflicting options: --name and a name as the argument")
    name = given[0] if given else parsed.get("name", "")
    body = {
        "Driver": parsed.get("driver", "local"),
        "DriverOpts": key_values(parsed.many("opt")),
        "Labels": key_values(parsed.many("label")),
        "Name": name,
    }
    return commands.VolumeCreate(name=name, body=body, warnings=tuple(parsed.warnings))


def _volume_rm(words: Sequence[str], _env: Mapping[str, str]) -> commands.VolumeRm:
    parsed = parse_flags(_VOLUME_RM, words)
    return commands.VolumeRm(
        volumes=names(parsed, "volume rm"), force=parsed.get("force", False), warnings=tuple(parsed.warnings)
    )


# Images

_PULL = table(
    "pull",
    (
        Flag("all-tags", "a", "bool"),
        Flag("disable-content-trust", "", "bool", note=NO_SIGNATURES),
        Flag("platform", parse=parse_platform),
        Flag("quiet", "q", "bool"),
    ),
)
_RMI = table("rmi", (_FORCE, Flag("no-prune", "", "bool"), Flag("platform", parse=parse_platform)))
_TAG = table("tag", ())


def _split(image: str, verb: str) -> tuple[str, str]:
    try:
        return split_image(image)
    except InvalidValue as error:
        raise InvalidValue(f"docker {verb}: {error}") from None


def _pull(words: Sequence[str], _env: Mapping[str, str]) -> commands.Pull:
    parsed = parse_flags(_PULL, words)
    (image,) = names(parsed, "pull", 1, 1)
    all_tags = parsed.get("all-tags", False)
    name, tag = _split(image, "pull")
    if all_tags and has_tag(image):
        raise InvalidValue(f"docker pull: {image!r}: a tag cannot be used with --all-tags")
    if parsed.get("disable-content-trust") is False:
        raise InvalidValue("docker pull: image signatures are not verified here; pin the image by its digest instead")
    return commands.Pull(
        image=image,
        name=name,
        tag="" if all_tags else tag,
        all_tags=all_tags,
        platform=parsed.get("platform", ""),
        quiet=parsed.get("quiet", False),
        warnings=tuple(parsed.warnings),
    )


def _rmi(words: Sequence[str], _env: Mapping[str, str]) -> commands.ImageRm:
    parsed = parse_flags(_RMI, words)
    return commands.ImageRm(
        images=names(parsed, "rmi"),
        force=parsed.get("force", False),
        prune=not parsed.get("no-prune", False),
        warnings=tuple(parsed.warnings),
    )


def _tag(words: Sequence[str], _env: Mapping[str, str]) -> commands.Tag:
    source, target = names(parse_flags(_TAG, words), "tag", 2, 2)
    repository, tag = _split(target, "tag")
    if "@" in target:
        raise InvalidValue(f"docker tag: {target!r} is a digest, expected name[:tag]")
    return commands.Tag(source=source, repository=repository, tag=tag)


# Prune, listings and inspect


def _prune(verb: str, kinds: tuple[str, ...], options: Sequence[Flag] = ()) -> Verb:
    flags = table(verb, (_FORCE, _LONG_FILTER, *options))

    def compile_words(words: Sequence[str], _env: Mapping[str, str]) -> commands.Prune:
        parsed = parse_flags(flags, words)
        names(parsed, verb, 0, 0)
        if not parsed.get("force"):
            raise InvalidValue(f"docker {verb}: would ask for confirmation, which nobody can give here: add --force")
        given = parsed.many("filter")
        chosen = [*kinds, "volumes"] if parsed.get("volumes") else list(kinds)
        filters: dict[str, str] = {}
        for kind in chosen:
            own = [pair for pair in given if kind != "volumes" or pair[0] != "until"]
            if kind == "images":
                own = [("dangling", "false" if parsed.get("all") else "true"), *own]
            if kind == "volumes" and kinds == ("volumes",) and parsed.get("all"):
                own = [("all", "1"), *own]
            filters[kind] = filters_text(own)
        return commands.Prune(kinds=tuple(chosen), filters=filters, warnings=tuple(parsed.warnings))

    return compile_words


_ALL = Flag("all", "a", "bool")
_QUIET = Flag("quiet", "q", "bool")
_LISTING = (_FILTER, _QUIET, Flag("no-trunc", "", "bool"), Flag("format", refuse=_TEMPLATE))
_ALL_CONTAINERS = (*_LISTING, _ALL, Flag("last", "n", parse=parse_int), Flag("latest", "l", "bool"),
                   Flag("size", "s", "bool"))  # fmt: skip
_IMAGES = (*_LISTING, _ALL, Flag("digests", "", "bool"))
_FORMAT = Flag("format", "f", parse=_template)
_PLAIN = (_FORMAT,)


def _query(verb: str, path: str, key: str = "", options: Sequence[Flag] = _PLAIN, most: int = 0) -> Verb:
    flags = table(verb, options)

    def compile_words(words: Sequence[str], _env: Mapping[str, str]) -> commands.Query:
        parsed = parse_flags(flags, words)
        given = names(parsed, verb, 0, most)
        pairs = [*parsed.many("filter"), *(("reference", word) for word in given)]
        params = {flag: "1" for flag in ("all", "size") if parsed.get(flag)}
        limit = 1 if parsed.get("latest") else parsed.get("last", -1)
        if limit >= 0:
            params["limit"] = str(limit)
        if pairs:
            params["filters"] = filters_text(pairs)
        return commands.Query(
            path=path,
            params=params,
            quiet=key if parsed.get("quiet") else "",
            template=parsed.get("format", ""),
            warnings=tuple(parsed.warnings),
        )

    return compile_words


_KINDS = ("container", "image", "network", "volume")


def _kind(text: str) -> str:
    if text not in _KINDS:
        raise InvalidValue(f"unknown type {text!r}, expected {', '.join(_KINDS)}")
    return text


def _inspect_table(verb: str, *more: Flag) -> FlagTable:
    return table(verb, (_FORMAT, *more))


def _inspect(verb: str, kind: str) -> Verb:
    more = (Flag("size", "s", "bool"),) if kind in {"", "container"} else ()
    flags = _inspect_table(verb, *more) if kind else _inspect_table(verb, *more, Flag("type", parse=_kind))

    def compile_words(words: Sequence[str], _env: Mapping[str, str]) -> commands.Inspect:
        parsed = parse_flags(flags, words)
        return commands.Inspect(
            names=names(parsed, verb),
            kind=kind or parsed.get("type", ""),
            size=parsed.get("size", False),
            template=parsed.get("format", ""),
            warnings=tuple(parsed.warnings),
        )

    return compile_words


INSPECT = _inspect("inspect", "")
PS = _query("ps", "/containers/json", "Id", _ALL_CONTAINERS)
IMAGES = _query("images", "/images/json", "Id", _IMAGES, most=1)
PULL, RMI, TAG = _pull, _rmi, _tag
VERSION = _query("version", "/version")
INFO = _query("info", "/info")

OBJECT_VERBS: dict[str, dict[str, Verb]] = {
    "container": {
        "ls": PS,
        "list": PS,
        "ps": PS,
        "inspect": _inspect("container inspect", "container"),
        "prune": _prune("container prune", ("containers",)),
    },
    "network": {
        **NETWORK_VERBS,
        "inspect": _inspect("network inspect", "network"),
        "ls": _query("network ls", "/networks", "Id", _LISTING),
        "list": _query("network list", "/networks", "Id", _LISTING),
        "prune": _prune("network prune", ("networks",)),
    },
    "volume": {
        "create": _volume_create,
        "rm": _volume_rm,
        "remove": _volume_rm,
        "inspect": _inspect("volume inspect", "volume"),
        "ls": _query("volume ls", "/volumes", "Name", _LISTING),
        "list": _query("volume list", "/volumes", "Name", _LISTING),
        "prune": _prune("volume prune", ("volumes",), (_ALL,)),
    },
    "image": {
        "pull": _pull,
        "rm": _rmi,
        "remove": _rmi,
        "tag": _tag,
        "inspect": _inspect("image inspect", "image"),
        "ls": IMAGES,
        "list": IMAGES,
        "prune": _prune("image prune", ("images",), (_ALL,)),
    },
    "system": {
        "info": INFO,
        "df": _query("system df", "/system/df"),
        "prune": _prune("system prune", ("containers", "networks", "images"), (_ALL, Flag("volumes", "", "bool"))),
    },
}
"""The verbs of each `docker <group> <verb>`. The group container also has the verbs of the module `containers`."""
