"""Image references and platforms, read as the docker client 20.10 reads them."""

import re

from xchronos.errors import InvalidValue

_COMPONENT = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = rf"{_COMPONENT}(?:\.{_COMPONENT})*(?::[0-9]+)?"
_PATH = r"[a-z0-9]+(?:(?:\.|_|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<name>(?:{_DOMAIN}/)?{_PATH}(?:/{_PATH})*)(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9_.-]{{0,127}}))?"
    r"(?:@(?P<digest>[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}))?"
)
_IDENTIFIER = re.compile(r"[a-f0-9]{64}|sha256:[a-f0-9]{64}")
_DIGEST = re.compile(r"sha256:[a-f0-9]{64}|sha384:[a-f0-9]{96}|sha512:[a-f0-9]{128}")
_HUB = ("docker.io", "index.docker.io")
_NAME_LIMIT = 255

_PLATFORM_PART = re.compile(r"[A-Za-z0-9_-]+")
_SYSTEMS = frozenset(
    (
        "aix", "android", "darwin", "dragonfly", "freebsd", "illumos", "ios", "js", "linux", "nacl", "netbsd",
        "openbsd", "plan9", "solaris", "windows", "zos", "hurd",
    )
)  # fmt: skip
_ARCHITECTURES = frozenset(
    (
        "386", "amd64", "amd64p32", "arm", "armbe", "arm64", "arm64be", "loong64", "mips", "mips64", "mips64le",
        "mips64p32", "mips64p32le", "mipsle", "ppc", "ppc64", "ppc64le", "riscv", "riscv64", "s390", "s390x", "sparc",
        "sparc64", "wasm",
    )
)  # fmt: skip
_SAME_ARCHITECTURE = {
    "i386": ("386", ""),
    "x86_64": ("amd64", ""),
    "x86-64": ("amd64", ""),
    "aarch64": ("arm64", ""),
    "armhf": ("arm", ""),
    "armel": ("arm", "v6"),
}


def check_image(image: str) -> str:
    """The image as written. Raises InvalidValue unless it is `[host[:port]/]path[:tag][@digest]` or an image id."""
    if _IDENTIFIER.fullmatch(image) is None:
        _parts(image)
    return image


def split_image(image: str) -> tuple[str, str]:
    """(name, tag or digest) of a reference, for `fromImage` and `tag` of a pull. The default tag is `latest`.

    Raises InvalidValue for an image id, because ids cannot be pulled, and for what is no reference.
    """
    if _IDENTIFIER.fullmatch(image) is not None:
        raise InvalidValue(f"{image!r} is an image id, expected a name: ids cannot be pulled")
    name, tag, digest = _parts(image)
    return name, digest or tag or "latest"


def has_tag(image: str) -> bool:
    """Whether a valid reference names a tag or a digest."""
    _, tag, digest = _parts(image)
    return bool(tag or digest)


def _parts(image: str) -> tuple[str, str, str]:
    """(name, tag, digest) of a reference. The name has no `docker.io` and no `library/`. Raises InvalidValue."""
    match = _REFERENCE.fullmatch(image)
    if match is None:
        if _REFERENCE.fullmatch(image.lower()) is not None:
            raise InvalidValue(f"invalid image {image!r}: the repository name must be lowercase")
        raise InvalidValue(f"invalid image {image!r}, expected [host[:port]/]name[:tag][@digest]")
    name, tag, digest = match.group("name"), match.group("tag") or "", match.group("digest") or ""
    host, slash, path = name.partition("/")
    if not slash or ("." not in host and ":" not in host and host != "localhost"):
        host, path = _HUB[0], name
    if path != path.lower():
        raise InvalidValue(f"invalid image {image!r}: the repository name must be lowercase")
    if digest and _DIGEST.fullmatch(digest) is None:
        raise InvalidValue(f"invalid image {image!r}: the digest is not a sha256, sha384 or sha512 sum")
    if len(host) + 1 + len(path) > _NAME_LIMIT:
        raise InvalidValue(f"invalid image: the name is longer than {_NAME_LIMIT} characters")
    if host in _HUB:
        return path.removeprefix("library/") if path.count("/") == 1 else path, tag, digest
    return name, tag, digest


def parse_platform(text: str) -> str:
    """A platform in its normal form: `linux/amd64`, `linux/arm/v7`. Empty means the engine's own.

    A system alone (`linux`) stays alone, because the architecture is then the engine's. Raises InvalidValue.
    """
    if not text:
        return text
    parts = text.lower().split("/")
    if len(parts) > 3 or not all(_PLATFORM_PART.fullmatch(part) for part in parts):
        raise InvalidValue(f"invalid platform {text!r}, expected system/architecture[/variant]")
    if len(parts) == 1:
        if parts[0] in {"macos", *_SYSTEMS}:
            return "darwin" if parts[0] == "macos" else parts[0]
        if parts[0] not in _ARCHITECTURES and parts[0] not in _SAME_ARCHITECTURE:
            raise InvalidValue(f"invalid platform {text!r}: an unknown system or architecture")
        parts = ["linux", *parts]
    system = "darwin" if parts[0] == "macos" else parts[0]
    architecture, variant = _SAME_ARCHITECTURE.get(parts[1], (parts[1], ""))
    if len(parts) == 3:
        variant = f"v{parts[2]}" if architecture == "arm" and parts[2].isdigit() else parts[2]
    return "/".join(part for part in (system, architecture, variant) if part)
