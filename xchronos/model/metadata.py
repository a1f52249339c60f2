"""What metadata of machines may be, whichever way they come: settings, environment, command line, API."""

from collections.abc import Collection, Iterable

from xchronos.errors import InvalidValue, quoted
from xchronos.limits import METADATA_KEY_BYTES, METADATA_KEYS, METADATA_VALUE_BYTES


def check_metadata(pairs: Iterable[tuple[str, str]]) -> None:
    """Raise InvalidValue for a key or a value that no unit could ask for, or that is too long for every record."""
    for key, value in pairs:
        shown = quoted(f"{key}={value}")
        if not key or not value or any(sign in key for sign in "=!<>") or key != key.strip():
            raise InvalidValue(f"{shown}: expected a key without any of =!<> and a value, neither empty")
        for what, text, most in (("key", key, METADATA_KEY_BYTES), ("value", value, METADATA_VALUE_BYTES)):
            size = len(text.encode("utf-8", "surrogatepass"))
            if size > most:
                raise InvalidValue(f"{shown}: its {what} has {size} bytes, expected at most {most}")
            if not text.isprintable():
                raise InvalidValue(f"{shown}: its {what} holds what cannot be printed (a line feed, a byte not UTF-8)")


def check_number(keys: Collection[str], before: int = 0) -> None:
    """Raise InvalidValue for more metadata than a machine may have, unless there were as many before."""
    if len(keys) > max(METADATA_KEYS, before):
        raise InvalidValue(f"{len(keys)} metadata of one machine: expected at most {METADATA_KEYS}")


def check_reason(text: str) -> None:
    """Raise InvalidValue for a reason of a cordon or a drain that is longer than a value of metadata may be."""
    size = len(text.encode("utf-8", "surrogatepass"))
    if size > METADATA_VALUE_BYTES:
        raise InvalidValue(f"the reason {quoted(text)} has {size} bytes, expected at most {METADATA_VALUE_BYTES}")
