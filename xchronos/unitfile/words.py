r"""Splitting text into words, as systemd's `extract_first_word` does.

Blanks separate words. `'...'` and `"..."` may begin anywhere in a word, and the quotes are removed. Keys differ in what
a backslash does, so there are four modes:

- `Escapes.C`: C escapes are decoded, outside quotes and in both kinds of quotes. Any other escape is an error.
- `Escapes.KEEP_UNKNOWN`: the same, but an unknown escape stays as written. So does an unquoted backslash at the end.
- `Escapes.DROP`: the backslash is removed and the next character stays as it is. A backslash at the end is an error.
- `Escapes.DROP_RELAXED`: as DROP, but neither a backslash at the end nor an open quote is an error.

The tests `test_words`, `test_words_refused` and `test_words_in_other_modes` pin the modes.

Escapes like `\xc3\xa4` name bytes. Bytes that together form no valid UTF-8 become lone surrogates (PEP 383).
`os.fsencode` turns those back into the bytes.
"""

import re
from enum import Enum

from xchronos.errors import InvalidValue

BLANKS = " \t\n\r"
"""The only characters that systemd treats as white space, in every part of a unit file."""


class Escapes(Enum):
    """What a backslash does; the module explains the modes."""

    C = "c"
    KEEP_UNKNOWN = "keep-unknown"
    DROP = "drop"
    DROP_RELAXED = "drop-relaxed"


_SKIP_BLANKS = re.compile(r"[ \t\n\r]*")
_PLAIN = re.compile(r"[^ \t\n\r\"'\\]+")
_IN_QUOTES = {'"': re.compile(r'[^"\\]+'), "'": re.compile(r"[^'\\]+")}
_SIMPLE_WORD = re.compile(r"[^ \t\n\r]+")

_SINGLE = {
    "a": "\a", "b": "\b", "f": "\f", "n": "\n", "r": "\r", "t": "\t", "v": "\v",
    "\\": "\\", '"': '"', "'": "'", "s": " ",
}  # fmt: skip
_NUMERIC = re.compile(r"x(?P<hex>[0-9A-Fa-f]{2})|(?P<octal>[0-7]{3})|u(?P<u4>[0-9A-Fa-f]{4})|U(?P<u8>[0-9A-Fa-f]{8})")


def split_words(text: str, escapes: Escapes = Escapes.C) -> list[str]:
    """All words of `text`. Raises InvalidValue for an open quote or a bad escape if the mode does not allow it."""
    if not ("\\" in text or '"' in text or "'" in text):
        return _SIMPLE_WORD.findall(text)
    words: list[str] = []
    position = 0
    while True:
        word, position = next_word(text, position, escapes)
        if word is None:
            return words
        words.append(word)


def leading_words(text: str, escapes: Escapes) -> tuple[list[str], str]:
    """The words of `text` before the first one that cannot be read, and what is wrong with that one ("" for none).

    systemd reads its lists this way: the words before an open quote count.
    """
    words: list[str] = []
    position = 0
    while True:
        try:
            word, position = next_word(text, position, escapes)
        except InvalidValue as error:
            return words, str(error)
        if word is None:
            return words, ""
        words.append(word)


def next_word(text: str, position: int, escapes: Escapes) -> tuple[str | None, int]:
    """The first word at or after `position`, and the index of the next one. The word is None if only blanks are left.

    Raises InvalidValue as `split_words` does.
    """
    at = _skip_blanks(text, position)
    end = len(text)
    if at == end:
        return None, end
    pieces: list[str] = []
    quote = ""
    while at < end:
        run = (_IN_QUOTES[quote] if quote else _PLAIN).match(text, at)
        if run:
            pieces.append(run[0])
            at = run.end()
            continue
        char = text[at]
        at += 1
        if char == "\\":
            piece, at = _escape(text, at, escapes, quote)
            pieces.append(piece)
        elif quote:
            quote = ""
        elif char in BLANKS:
            at = _skip_blanks(text, at)
            return _assemble(pieces), at
        else:
            quote = char
    if quote and escapes is not Escapes.DROP_RELAXED:
        raise InvalidValue(f"unbalanced quoting: {quote} is opened and never closed")
    return _assemble(pieces), end


def _skip_blanks(text: str, at: int) -> int:
    match = _SKIP_BLANKS.match(text, at)
    assert match is not None, "the pattern matches the empty text at least"
    return match.end()


def _escape(text: str, at: int, escapes: Escapes, quote: str) -> tuple[str, int]:
    """What the backslash before the index `at` stands for, and the index at which to go on."""
    if at == len(text):
        if escapes is Escapes.DROP_RELAXED:
            return "", at
        if escapes is Escapes.KEEP_UNKNOWN and not quote:
            return "\\", at
        raise InvalidValue("a backslash at the end escapes nothing")
    char = text[at]
    if escapes is Escapes.DROP or escapes is Escapes.DROP_RELAXED:
        return char, at + 1
    if char in _SINGLE:
        return _SINGLE[char], at + 1
    match = _NUMERIC.match(text, at)
    piece = _number(match) if match else None
    if match and piece is not None:
        return piece, match.end()
    if escapes is Escapes.KEEP_UNKNOWN:
        return "\\" + char, at + 1
    raise InvalidValue(f"unknown escape sequence \\{char}")


def _number(match: re.Match[str]) -> str | None:
    """The character of a numeric escape, or its byte as a PEP 383 surrogate. None for NUL and numbers out of range."""
    if match["hex"] or match["octal"]:
        byte = int(match["hex"], 16) if match["hex"] else int(match["octal"], 8)
        if not 0 < byte < 0x100:
            return None
        return chr(byte) if byte < 0x80 else chr(0xDC00 + byte)
    code = int(match["u4"] or match["u8"], 16)
    if code == 0 or (match["u8"] and not is_character(code)):
        return None
    if 0xD800 <= code < 0xE000:
        return chr(code).encode("utf-8", "surrogatepass").decode("utf-8", "surrogateescape")
    return chr(code)


def is_character(code: int) -> bool:
    """Whether systemd accepts a code point: it is no surrogate and no noncharacter, and below U+110000."""
    return code < 0x110000 and code & 0xFFFFF800 != 0xD800 and not 0xFDD0 <= code <= 0xFDEF and code & 0xFFFE != 0xFFFE


def _assemble(pieces: list[str]) -> str:
    word = "".join(pieces)
    if word.isascii():
        return word
    # Bytes that were escaped one by one may form UTF-8 together.
    return word.encode("utf-8", "surrogateescape").decode("utf-8", "surrogateescape")
