"""Units by pattern: `report-*` is every unit whose name matches."""

from fnmatch import fnmatchcase


def is_pattern(text: str) -> bool:
    """Whether a person means every unit whose name matches."""
    return any(sign in text for sign in "*?[") and "/" not in text


def matches(name: str, pattern: str) -> bool:
    """Whether a unit's name matches a pattern, with or without its `.service`."""
    return fnmatchcase(name, pattern) or fnmatchcase(name, f"{pattern}.service")
