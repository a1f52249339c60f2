"""systemd's unit file syntax (systemd.syntax(7), read as systemd 252 reads it): text in, `UnitFile` out.

Some of the rules surprise people. The test `test_edges` pins them:

- A comment line is skipped before anything else, even inside a continuation. A backslash at its end means nothing.
- There are no comments after a value.
- A backslash continues the line if it is the very last character and no other backslash escapes it. It becomes one
  space. The next line is appended with its leading blanks, even if it looks like `[Header]` or `a=b`.
- A blank line ends a continuation.
- Blanks are space, tab, CR and LF. A no-break space is part of the value.
"""

import re
from collections.abc import Sequence
from itertools import count

from xchronos.errors import Problem, UnitFileError
from xchronos.unitfile.document import Header, Option, UnitFile
from xchronos.unitfile.words import BLANKS

LINE_LIMIT = 1024 * 1024
"""In bytes. A line of this length refuses the file (systemd: ENOBUFS). So do joined lines that are longer than this."""

# LF, CR, CRLF, LFCR or NUL. A NUL after one of the others belongs to it (`test_line_ends`).
_LINE_END = re.compile(r"\n\r?\0?|\r\n?\0?|\0")
# Code points that systemd does not accept, although their encoding is valid UTF-8.
_NOT_CHARACTERS = re.compile(
    "[\ufdd0-\ufdef" + "".join(chr(plane << 16 | low) for plane in range(17) for low in (0xFFFE, 0xFFFF)) + "]"
)
_UNSAFE_IN_HEADER = re.compile("[\x01-\x1f\x7f\"'\\\\]")
_BOM = "\ufeff"
_BOM_AS_LATIN1 = _BOM.encode().decode("latin-1")


def parse(text: bytes | str, path: str = "") -> UnitFile:
    """Parse one unit file. `path` is used in options and messages only; nothing is read from it.

    Raises UnitFileError, with every problem found, when systemd would refuse the whole file: for a malformed section
    header, for bytes outside comments that are not UTF-8, and for a line that is too long.
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
    """The physical lines. A last line without a line end counts. A line end at the very end opens no new line."""
    lines = _LINE_END.split(text) if "\r" in text or "\0" in text else text.split("\n")
    if not lines[-1]:
        lines.pop()
    return lines


def _join(lines: Sequence[str], bom: str) -> list[tuple[int, str]]:
    """The logical lines without comments and blank lines, stripped, each with the number of its first physical line."""
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
                # Only the first mark is dropped. A `#` after it begins no comment, because systemd looks for comments
                # before it drops the mark.
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
            # A bad header refuses the file. Its options are still read, so that all other problems are reported too.
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
    """Parse what the quick way cannot: files of 1 MiB or more, and bytes that are not valid UTF-8.

    Latin-1 maps every byte to one character. Lengths are therefore counted in bytes, and comments may hold any bytes.
    The test `test_the_exact_and_the_quick_way_agree` pins that both ways give the same result.
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
    """Raise UnitFileError at the first line that systemd refuses with ENOBUFS. systemd reads no further, either."""
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
