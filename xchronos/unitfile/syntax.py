"""systemd's unit file syntax (systemd.syntax(7), read as systemd 252 reads it): text in, `UnitFile` out.

What surprises people, and is so on purpose:

- A comment line is skipped before anything else, inside a continuation too, and its trailing backslash means nothing.
- There are no comments behind a value.
- A backslash continues the line only when it is the very last character and not itself escaped by another one; it
  becomes one space, and the next line is appended with its leading blanks, even if it looks like `[Header]` or `a=b`.
- A blank line ends a continuation.
- Blanks are space, tab, CR and LF; a no-break space is part of the value.
"""

import re
from collections.abc import Sequence
from itertools import count

from xchronos.errors import Problem, UnitFileError
from xchronos.unitfile.document import Header, Option, UnitFile
from xchronos.unitfile.words import BLANKS

LINE_LIMIT = 1024 * 1024
"""A line of this many bytes refuses the file (systemd: ENOBUFS); so do joined lines of more bytes than this."""

# LF, CR, CRLF, LFCR or NUL; a NUL may also close any of the others.
_LINE_END = re.compile(r"\n\r?\0?|\r\n?\0?|\0")
# Code points that systemd does not count as valid UTF-8 although the encoding is.
_NOT_CHARACTERS = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)) + "]"
)
_UNSAFE_IN_HEADER = re.compile("[\x01-\x1f\x7f\"'\\\\]")
_BOM = "\ufeff"
_BOM_AS_LATIN1 = _BOM.encode().decode("latin-1")


def parse(text: bytes | str, path: str = "") -> UnitFile:
    """Parse one unit file; `path` only names it in options and messages.

    Raises UnitFileError, with every problem found, when systemd would refuse the whole file: a malformed section
    header, bytes outside comments that are not UTF-8, a line of 1 MiB.
    """
    data = text if isinstance(text, bytes) else _encode(text, path)
    if len(data) < LINE_LIMIT:
        try:
            decoded = data.decode()
        except UnicodeDecodeError:
            return _parse_by_bytes(data, path)
        if decoded.isascii() or not _NOT_CHARACTERS.search(decoded):
            return _build(data, path, _join(_split(decoded), _BOM), [])
    return _parse_by_bytes(data, path)


def _encode(text: str, path: str) -> bytes:
    try:
        return text.encode("utf-8", "surrogateescape")
    except UnicodeEncodeError as error:
        line = len(_split(text[: error.start] + "."))
        raise UnitFileError([Problem("not valid text: a lone surrogate", path, line)]) from error


def _split(text: str) -> list[str]:
    """The physical lines. A last line without an end counts; nothing follows the end of the last line."""
    lines = _LINE_END.split(text) if "\r" in text or "\0" in text else text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _join(lines: Sequence[str], bom: str) -> list[tuple[int, str]]:
    """The logical lines, stripped, each with the number of its first physical line. No comments, no blank lines."""
    joined: list[tuple[int, str]] = []
    held = ""
    start = 0
    for number, physical in enumerate(lines, 1):
        line = physical
        stripped = line.strip(BLANKS)
        if stripped:
            if stripped[0] in "#;":
                continue
            if bom and line.startswith(bom):
                # Only the first mark is dropped. A `#` behind it no longer makes a comment: systemd looked before.
                line = line[len(bom) :]
                stripped = line.strip(BLANKS)
                bom = ""
        if line.endswith("\\") and (len(line) - len(line.rstrip("\\"))) % 2:
            if not held:
                start = number
            held += line[:-1] + " "
        elif held:
            stripped = (held + line).strip(BLANKS)
            held = ""
            if stripped:
                joined.append((start, stripped))
        elif stripped:
            joined.append((number, stripped))
    held = held.strip(BLANKS)
    if held:
        joined.append((start, held))
    return joined


def _build(data: bytes, path: str, lines: Sequence[tuple[int, str]], errors: list[Problem]) -> UnitFile:
    options: list[Option] = []
    headers: list[Header] = []
    warnings: list[Problem] = []
    section: str | None = None
    for number, line in lines:
        if line[0] == "[":
            # After a bad header the options go nowhere, but whatever else is wrong below is still reported.
            section = line[1:-1]
            if line[-1] != "]":
                errors.append(
                    Problem(f"invalid section header {line!r}: expected [Name] alone on its line", path, number)
                )
            elif _UNSAFE_IN_HEADER.search(section):
                message = f"bad characters in section header {line!r}: no quotes, backslashes or control characters"
                errors.append(Problem(message, path, number))
            headers.append(Header(section, number, path))
            continue
        if section is None:
            warnings.append(Problem("assignment outside of a section, ignored", path, number, severity="warning"))
            continue
        name, equals, value = line.partition("=")
        if not equals:
            warnings.append(Problem("missing '=', line ignored", path, number, section, severity="warning"))
        elif not name:
            warnings.append(
                Problem("missing key name before '=', line ignored", path, number, section, severity="warning")
            )
        else:
            options.append(Option(section, name.rstrip(BLANKS), value.lstrip(BLANKS), number, path))
    if errors:
        raise UnitFileError(sorted((*errors, *warnings), key=lambda problem: problem.line))
    return UnitFile(path, data, tuple(options), tuple(headers), tuple(warnings))


def _parse_by_bytes(data: bytes, path: str) -> UnitFile:
    """The exact way for what the quick one cannot take: long files, and bytes that are not valid UTF-8.

    Latin-1 maps every byte to one character, so lengths are in bytes and comments may hold anything.
    """
    lines = _split(data.decode("latin-1"))
    _check_lengths(lines, path)
    logical: list[tuple[int, str]] = []
    errors: list[Problem] = []
    for number, line in _join(lines, _BOM_AS_LATIN1):
        try:
            decoded = line.encode("latin-1").decode()
        except UnicodeDecodeError:
            errors.append(Problem("not valid UTF-8", path, number))
            continue
        if _NOT_CHARACTERS.search(decoded):
            errors.append(Problem("not valid UTF-8: holds a code point that is no character", path, number))
            continue
        logical.append((number, decoded))
    return _build(data, path, logical, errors)


def _check_lengths(lines: Sequence[str], path: str) -> None:
    """Refuse what systemd refuses with ENOBUFS, at the first line that does it, as it reads no further."""
    held = 0
    for number, line in zip(count(1), lines, strict=False):
        if len(line) >= LINE_LIMIT:
            raise UnitFileError([Problem("line too long: the limit is 1 MiB", path, number)])
        if line.lstrip(BLANKS)[:1] in {"#", ";"}:
            continue
        if held and held + len(line) > LINE_LIMIT:
            raise UnitFileError([Problem("continued line too long: the limit is 1 MiB", path, number)])
        continued = (len(line) - len(line.rstrip("\\"))) % 2
        held = held + len(line) if continued else 0
