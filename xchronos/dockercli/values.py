"""Values of docker options, read exactly as the docker client 20.10 and Go's standard library read them.

Every function takes the text of one value and returns the value for the Engine API. It raises InvalidValue, which says
what was expected. A number that overflows silently in the client is refused here.
"""

import ipaddress
import re
from fractions import Fraction

from xchronos.errors import InvalidValue

INT64_MAX = (1 << 63) - 1
_INT64_MIN = -(1 << 63)
_NUMBER_LENGTH = 64
"""The longest text that is read as a number. Python refuses to read very long ones, and 64 bits need no more."""

_TRUE = frozenset(("1", "t", "T", "TRUE", "true", "True"))
_FALSE = frozenset(("0", "f", "F", "FALSE", "false", "False"))

_SIZE = re.compile(r"\+?([0-9]+\.?[0-9]*|\.[0-9]+)(?:[eE]([+-]?[0-9]{1,3}))? ?([kKmMgGtTpP])?[iI]?[bB]?")
_SHIFT = {"": 0, "k": 10, "m": 20, "g": 30, "t": 40, "p": 50}
_GO_INT = re.compile(r"[+-]?(?:0[xX][0-9A-Fa-f_]+|0[bB][01_]+|0[oO]?[0-7_]+|[0-9_]+)")
_OLD_OCTAL = re.compile(r"([+-]?)0([0-7_]+)")
_DECIMAL_INT = re.compile(r"[+-]?[0-9]+")
_DIGITS = re.compile(r"[0-9]+")
_DECIMAL = re.compile(r"[+-]?(?:[0-9]+(?:\.[0-9]*)?|\.[0-9]+)(?:[eE][+-]?[0-9]{1,3})?")
_DURATION = re.compile(r"([0-9]*)(?:\.([0-9]*))?(ns|us|\u00b5s|\u03bcs|ms|s|m|h)")
_NANOSECONDS = {
    "ns": 1,
    "us": 1_000,
    "\u00b5s": 1_000,
    "\u03bcs": 1_000,
    "ms": 1_000_000,
    "s": 1_000_000_000,
    "m": 60_000_000_000,
    "h": 3_600_000_000_000,
}
_MAC = re.compile(
    r"(?:[0-9A-Fa-f]{2}(?::[0-9A-Fa-f]{2}){5,19}|[0-9A-Fa-f]{2}(?:-[0-9A-Fa-f]{2}){5,19}"
    r"|[0-9A-Fa-f]{4}(?:\.[0-9A-Fa-f]{4}){2,9})"
)
_MAC_LENGTHS = (12, 16, 40)
_LABEL = r"[a-zA-Z0-9](?:[a-zA-Z0-9-]*[a-zA-Z0-9])?"
_DOMAIN = re.compile(rf"({_LABEL}(?:\.{_LABEL})*)\.?\s*")
_LETTER = re.compile(r"[a-zA-Z]")
_WHITESPACE = re.compile(r"\s")


def parse_bool(text: str) -> bool:
    """A boolean in Go's spellings: 1, t, T, TRUE, true, True, and 0, f, F, FALSE, false, False."""
    if text in _TRUE:
        return True
    if text in _FALSE:
        return False
    raise InvalidValue(f"{text!r} is not a boolean, expected true or false")


def parse_size(text: str) -> int:
    """A number of bytes, with an optional unit b, k, m, g, t or p: powers of 1024. `KiB` and `kb` mean `k`.

    Fractions and exponents, which later clients than 20.10 read, are read too: `.5g`, `1e6`.
    """
    match = _SIZE.fullmatch(text) if len(text) <= _NUMBER_LENGTH else None
    if match is None:
        raise InvalidValue(f"invalid size: {text!r}, expected a number with an optional unit b, k, m, g, t or p")
    number, exponent, unit = match.groups("")
    shift = _SHIFT[unit.lower()]
    if number.isdigit() and not exponent:
        size = int(number) << shift
    else:
        size = int(Fraction(f"{number}e{exponent or 0}") * (1 << shift))
    if size > INT64_MAX:
        raise InvalidValue(f"invalid size: {text!r} is beyond 8 EiB")
    return size


def parse_swap(text: str) -> int:
    """A number of bytes, as `parse_size` reads it, or -1 for no limit."""
    return -1 if text == "-1" else parse_size(text)


def parse_int(text: str) -> int:
    """A signed 64-bit integer, as Go reads it in options: 10, 0x1f, 0b11, 0o17, 017 (octal), 1_000."""
    return _go_int(text, _INT64_MIN, INT64_MAX)


def parse_uint16(text: str) -> int:
    """An integer from 0 to 65535, as Go reads it in options, without a sign."""
    if text[:1] in {"+", "-"}:
        raise InvalidValue(f"{text!r} is not an unsigned integer")
    return _go_int(text, 0, 65535)


def _go_int(text: str, low: int, high: int) -> int:
    if _GO_INT.fullmatch(text) is None:
        raise InvalidValue(f"{text!r} is not an integer")
    try:
        number = int(_OLD_OCTAL.sub(r"\g<1>0o\2", text) if _OLD_OCTAL.fullmatch(text) else text, 0)
    except ValueError:
        raise InvalidValue(f"{text!r} is not an integer") from None
    if not low <= number <= high:
        raise InvalidValue(f"{text!r} is out of range, expected {low} to {high}")
    return number


def parse_decimal_int(text: str) -> int:
    """A signed 64-bit decimal integer, as Go's `Atoi` reads it: without prefixes and underscores."""
    if _DECIMAL_INT.fullmatch(text) is None or len(text) > 20:
        raise InvalidValue(f"{text!r} is not an integer")
    number = int(text)
    if not _INT64_MIN <= number <= INT64_MAX:
        raise InvalidValue(f"{text!r} is out of range")
    return number


def parse_digits(text: str, high: int) -> int:
    """A decimal integer from 0 to `high`, of digits only."""
    if _DIGITS.fullmatch(text) is None:
        raise InvalidValue(f"{text!r} is not a number")
    digits = text.lstrip("0") or "0"
    if len(digits) > 20 or int(digits) > high:
        raise InvalidValue(f"{text!r} is out of range, expected 0 to {high}")
    return int(digits)


def parse_cpus(text: str) -> int:
    """The value of `--cpus` in billionths of a CPU: a decimal number or a fraction (`1.5`, `1/2`), to nine decimals."""
    nano = _rational(text) * 1_000_000_000
    if nano.denominator != 1:
        raise InvalidValue(f"{text!r} is too precise, expected at most nine decimals")
    if not _INT64_MIN <= nano.numerator <= INT64_MAX:
        raise InvalidValue(f"{text!r} is more CPUs than a machine can have")
    return nano.numerator


def _rational(text: str) -> Fraction:
    if len(text) > _NUMBER_LENGTH:
        raise InvalidValue("failed to parse the number of CPUs, expected for example 1.5")
    if _DECIMAL.fullmatch(text.replace("_", "") if "_" in text else text) is not None and "__" not in text:
        if "_" not in text:
            return Fraction(text)
        return Fraction(_without_underscores(text))
    above, slash, below = text.partition("/")
    try:
        denominator = parse_int(below) if slash else 1
        if denominator > 0 and below[:1] != "+":
            return Fraction(parse_int(above), denominator)
    except InvalidValue:
        pass
    raise InvalidValue(f"failed to parse {text!r} as a number of CPUs, expected for example 1.5")


def _without_underscores(text: str) -> str:
    if re.search(r"(?<![0-9])_|_(?![0-9])", text):
        raise InvalidValue(f"failed to parse {text!r} as a number of CPUs, expected for example 1.5")
    return text.replace("_", "")


def parse_duration(text: str) -> int:
    """A Go duration, in nanoseconds: `1h30m`, `1.5s`, `500ms`. `0` needs no unit."""
    body = text[1:] if text[:1] in {"+", "-"} else text
    if body == "0":
        return 0
    total = position = 0
    while position < len(body):
        match = _DURATION.match(body, position)
        if match is None or not (match[1] or match[2]) or len(match[1]) > 19:
            break
        whole, fraction, unit = match[1] or "0", match[2] or "", _NANOSECONDS[match[3]]
        total += int(whole) * unit
        if fraction:
            digits = fraction[:18]  # later digits are below a nanosecond in every unit
            total += int(digits) * unit // 10 ** len(digits)
        position = match.end()
    if not body or position < len(body):
        raise InvalidValue(f"invalid duration {text!r}, expected a number with a unit ms, s, m or h")
    if total > INT64_MAX:
        raise InvalidValue(f"invalid duration {text!r}: more than 292 years")
    return -total if text[0] == "-" else total


def parse_ip(text: str) -> str | None:
    """An IP address as Go prints it, or None if the text is none. An IPv6 zone (`%eth0`) is not accepted."""
    if "%" in text:
        return None
    try:
        address = ipaddress.ip_address(text)
    except ValueError:
        return None
    if isinstance(address, ipaddress.IPv6Address) and address.ipv4_mapped is not None:
        return str(address.ipv4_mapped)
    return str(address)


def parse_dns(text: str) -> str:
    """The IP address of a name server."""
    address = parse_ip(text.strip())
    if address is None:
        raise InvalidValue(f"{text!r} is not an ip address")
    return address


def parse_domain(text: str) -> str:
    """A search domain, or `.` for none."""
    text = text.strip()
    if text == ".":
        return text
    match = _DOMAIN.fullmatch(text)
    if match is None or _LETTER.search(text) is None or len(match[1]) >= 255:
        raise InvalidValue(f"{text!r} is not a valid domain")
    return match[1]


def parse_mac(text: str) -> str:
    """A hardware address of 6, 8 or 20 bytes, with colons, hyphens or dots. Empty means none."""
    if text and (_MAC.fullmatch(text) is None or len(re.sub("[:.-]", "", text)) not in _MAC_LENGTHS):
        raise InvalidValue(f"{text!r} is not a valid mac address, expected for example 92:d0:c6:0a:29:33")
    return text


def parse_env(text: str) -> str:
    """One variable: `NAME=value`, or `NAME` for the value that the caller's environment has. NAME may not be empty."""
    if not text or text[0] == "=":
        raise InvalidValue(f"invalid environment variable: {text!r}, expected NAME=value")
    return text


def parse_label(text: str) -> str:
    """One label: `key=value` or `key`. The key may not be empty and may not hold blanks."""
    key = text.partition("=")[0].lstrip()
    if not key:
        raise InvalidValue(f"invalid label {text!r}: empty name")
    if _WHITESPACE.search(key) is not None:
        raise InvalidValue(f"label {key!r} contains whitespaces")
    return text


def key_values(items: list[str]) -> dict[str, str]:
    """The words `key=value` as a mapping. A word without `=` has an empty value, and a later word wins."""
    return {key: value for key, _, value in (item.partition("=") for item in items)}


def csv_fields(text: str) -> list[str]:
    """The fields of one CSV record, as Go's encoding/csv reads it. `"` quotes a field, and `""` is a quote within it.

    Blank lines before the record are skipped, and what follows its line is not read. Raises InvalidValue for a stray
    quote. The test `test_csv_never_loses_the_way` pins that every text gives fields or an error.
    """
    if '"' not in text and "\n" not in text and text:
        return text.split(",")
    text = text.lstrip("\n")
    if not text:
        raise InvalidValue("an empty value, expected key=value fields")
    fields: list[str] = []
    position = 0
    while True:
        if text[position : position + 1] == '"':
            field, position = _quoted(text, position + 1)
        else:
            end = min(p for p in (text.find(",", position), text.find("\n", position), len(text)) if p >= 0)
            field, position = text[position:end], end
            if '"' in field:
                raise InvalidValue(f"a bare quote in the field {field!r}: quote the whole field")
        fields.append(field)
        if text[position : position + 1] != ",":
            return fields
        position += 1


def _quoted(text: str, position: int) -> tuple[str, int]:
    pieces: list[str] = []
    while True:
        end = text.find('"', position)
        if end < 0:
            raise InvalidValue("a quoted field is not closed")
        pieces.append(text[position:end])
        position = end + 1
        following = text[position : position + 1]
        if following != '"':
            break
        pieces.append('"')
        position += 1
    if following not in {"", ",", "\n"}:
        raise InvalidValue("text after the closing quote of a field")
    return "".join(pieces), position
