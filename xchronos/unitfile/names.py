"""Unit names: which are valid, their parts, and systemd's escaping (systemd.unit(5), systemd-escape(1))."""

import re
from collections.abc import Iterator

import msgspec

from xchronos.errors import InvalidValue

NAME_LIMIT = 255
"""The longest unit name, in bytes. Unit names are ASCII."""

PATH_LIMIT = 4095
"""The longest path, in bytes."""

PART_LIMIT = 255
"""The longest file name within a path, in bytes."""

SUFFIXES = frozenset(
    {
        ".service", ".socket", ".target", ".device", ".mount", ".automount", ".swap", ".timer", ".path", ".slice",
        ".scope",
    }
)  # fmt: skip
"""The unit types of systemd 252."""

PODMAN_SUFFIXES = {
    ".container": "call it NAME.service: its [Container] is read there",
    ".pod": "there are no pods here: units that share a Network= reach each other by NetworkAlias=",
    ".volume": "Volume=NAME:/path makes the volume when it is first used",
    ".network": "make it in a step, ExecStartPre=-docker network create NAME, and name it in Network=",
    ".kube": "write a .service with a [Container] for each container",
    ".image": "Image= pulls what is not there, as Pull= says",
    ".build": "build the image elsewhere, and name it in Image=",
}
"""The files that podman's quadlet reads besides, each with what does its work here."""

_NAME = re.compile(r"(?P<prefix>[A-Za-z0-9:_.\\-]+)(?:@(?P<instance>[A-Za-z0-9:_.\\@-]*))?(?P<suffix>\.[a-z]+)")
_ESCAPED = re.compile(rb"-|\\(?:x([0-9A-Fa-f]{2}))?")
_NEEDS_ESCAPE = re.compile(rb"[^A-Za-z0-9:_./]|\A\.")
_NEEDS_MANGLING = re.compile(rb"[^A-Za-z0-9:_.\\@-]")


class UnitName(msgspec.Struct, frozen=True):
    r"""A valid unit name, in parts. Build one with `UnitName.parse`.

    `foo@bar.service` is prefix `foo`, instance `bar`, suffix `.service`. `instance` is None for a plain name and empty
    for a template (`foo@.service`).
    """

    full: str
    prefix: str
    instance: str | None
    suffix: str

    @classmethod
    def parse(cls, name: str) -> "UnitName":
        """Check a name and take it apart. Raises InvalidValue."""
        match = _NAME.fullmatch(name)
        if match and match["suffix"] in SUFFIXES and len(name) <= NAME_LIMIT:
            return cls(name, match["prefix"], match["instance"], match["suffix"])
        raise InvalidValue(_what_is_wrong(name))

    @property
    def is_template(self) -> bool:
        """Whether this is `foo@.service`, which cannot run by itself."""
        return self.instance == ""

    @property
    def is_instance(self) -> bool:
        """Whether this is `foo@bar.service`."""
        return bool(self.instance)

    @property
    def kind(self) -> str:
        """`plain`, `template` or `instance`."""
        return "plain" if self.instance is None else "instance" if self.instance else "template"

    @property
    def template(self) -> str | None:
        """The template's name, for an instance and for the template itself; None for a plain name."""
        return None if self.instance is None else f"{self.prefix}@{self.suffix}"

    @property
    def stem(self) -> str:
        """The name without its suffix: the `%N` specifier."""
        return self.full.removesuffix(self.suffix)

    def with_instance(self, instance: str) -> "UnitName":
        """The name of an instance of this template. Raises InvalidValue if it is no valid name."""
        return UnitName.parse(f"{self.prefix}@{instance}{self.suffix}")


def _what_is_wrong(name: str) -> str:
    if len(name.encode("utf-8", "surrogatepass")) > NAME_LIMIT:
        return f"unit name is longer than {NAME_LIMIT} bytes: {name[:32]!r}..."
    stem, dot, suffix = name.rpartition(".")
    if dot + suffix not in SUFFIXES:
        instead = what_instead(name)
        if instead:
            return f"{name!r} is a file of podman's: {instead}"
        return f"unit name {name!r} has no known suffix: expected .service (or .timer, .socket, ...) at the end"
    if not stem or stem.startswith("@"):
        return f"unit name {name!r} has nothing before its {'@' if stem else 'suffix'}"
    wrong = f"unit name {name!r} has bad characters: only letters, digits and :_.\\-@ are allowed"
    escaped = _NEEDS_MANGLING.sub(_hex, name.encode("utf-8", "surrogateescape")).decode("ascii")
    return f"{wrong}; expected {escaped}, as systemd-escape --mangle writes it" if is_valid_name(escaped) else wrong


def what_instead(name: str) -> str:
    """What does the work of one of podman's files here; empty if the name is none of these."""
    stem, dot, suffix = name.rpartition(".")
    return PODMAN_SUFFIXES.get(dot + suffix, "").replace("NAME.service", f"{stem}.service") if stem else ""


def is_valid_name(name: str) -> bool:
    """Whether `UnitName.parse` would accept the name."""
    match = _NAME.fullmatch(name)
    return match is not None and match["suffix"] in SUFFIXES and len(name) <= NAME_LIMIT


def escape(text: str, *, path: bool = False) -> str:
    r"""Escape any text for use in a unit name: `/` becomes `-`, and what is not allowed becomes `\xHH`.

    With `path`, the text is a file system path. Outer and doubled slashes and `.` parts are removed first, and the root
    becomes `-`. Raises InvalidValue for a path with `..`.
    """
    if path:
        parts = [part for part in text.split("/") if part not in {"", "."}]
        if ".." in parts or (not parts and text.strip("/") and not text.startswith("/")):
            raise InvalidValue(f"cannot escape the path {text!r}: '.' alone and '..' have no unit name")
        if not parts:
            return "-"
        text = "/".join(parts)
        if is_too_long(text):
            raise InvalidValue(f"cannot escape the path {text[:32]!r}...: it is too long for a path")
    escaped = _NEEDS_ESCAPE.sub(_hex, text.encode("utf-8", "surrogateescape"))
    return escaped.replace(b"/", b"-").decode("ascii")


def unescape(text: str, *, path: bool = False) -> str:
    r"""Undo `escape`. Raises InvalidValue for a malformed `\x` and, with `path`, for what `escape` never returns."""
    if path and text == "-":
        return "/"
    plain = _ESCAPED.sub(_unhex, text.encode("utf-8", "surrogateescape"))
    # systemd's strings end at a NUL byte (`test_a_nul_ends_what_is_unescaped`).
    result = plain.partition(b"\0")[0].decode("utf-8", "surrogateescape")
    if not path:
        return result
    if not text or result.startswith("/") or result.endswith("/"):
        raise InvalidValue(f"{text!r} is no escaped path: expected something like 'var-lib-data', or '-' for /")
    if result and not {"", ".", ".."}.isdisjoint(result.split("/")):
        raise InvalidValue(f"{text!r} is no escaped path: it gives '/{result}', which is not normalised")
    if is_too_long(result):
        raise InvalidValue(f"{text[:32]!r}... is no escaped path: it is too long for one")
    return "/" + result


def is_too_long(path: str) -> bool:
    """Whether the path has more than `PATH_LIMIT` bytes, or a part of it more than `PART_LIMIT` bytes."""
    if len(path) * 4 <= PART_LIMIT:
        return False
    data = path.encode("utf-8", "surrogateescape")
    return len(data) > PATH_LIMIT or any(len(part) > PART_LIMIT for part in data.split(b"/"))


def _hex(match: re.Match[bytes]) -> bytes:
    return b"\\x%02x" % match[0][0]


def _unhex(match: re.Match[bytes]) -> bytes:
    if match[0] == b"-":
        return b"/"
    if match[1] is None:
        raise InvalidValue(
            rf"bad escape in {match.string.decode(errors='replace')!r}: expected \xHH behind a backslash"
        )
    return bytes.fromhex(match[1].decode())


def mangle(text: str, suffix: str = ".service") -> str:
    r"""The unit name that a person means: `foo` is `foo.service`, `a b` is `a\x20b.service`, `/srv` is `srv.mount`.

    Raises InvalidValue if the result is no valid name.
    """
    if is_valid_name(text):
        return text
    if text.startswith("/"):
        parts = [part for part in text.split("/") if part not in {"", "."}]
        kind = ".device" if len(parts) > 1 and parts[0] in {"dev", "sys"} else ".mount"
        if ".." not in parts:
            name = escape(text, path=True) + kind
            if is_valid_name(name):
                return name
    mangled = _NEEDS_MANGLING.sub(_hex, text.replace("/", "-").encode("utf-8", "surrogateescape")).decode("ascii")
    if not is_valid_name(mangled):
        mangled += suffix
    return UnitName.parse(mangled).full


def dropin_directories(name: UnitName) -> list[str]:
    """The names of a unit's drop-in directories, the most specific first.

    For `foo-bar@x.service` these are its own directory and its template's, then the same two for every shorter prefix
    that ends in a dash (`foo-`), and last the directory of the type, `service.d`.
    """
    return [f"{candidate}.d" for candidate in _candidates(name)] + [f"{name.suffix[1:]}.d"]


def _candidates(name: UnitName) -> Iterator[str]:
    prefix = name.prefix
    while True:
        if name.instance:
            yield f"{prefix}@{name.instance}{name.suffix}"
        yield f"{prefix}{'' if name.instance is None else '@'}{name.suffix}"
        # One dash is removed at a time: `a--b` gives `a--`, then `a-`. A prefix never shrinks to a lone dash. The test
        # `test_dropin_directories` pins both.
        cut = prefix.rfind("-", 0, -1)
        if cut < 1:
            return
        prefix = prefix[: cut + 1]
