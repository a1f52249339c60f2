"""Globs as Go's path.Match reads them. fleet's `Conflicts` and `Replaces` are such globs of unit names."""

import re
from functools import lru_cache
from typing import TypeAlias

import msgspec

_SPECIAL = re.compile(r"[*?\[\\]")


class _Class(msgspec.Struct, frozen=True):
    """A bracket expression: the ranges of characters that it matches or, if `negated`, does not match."""

    negated: bool
    ranges: tuple[tuple[str, str], ...]


_Chunk: TypeAlias = tuple[bool, tuple[str | _Class | None, ...]]
"""A piece of a glob without stars: whether a star precedes it, and its items (a literal, a class, or None for `?`)."""


def glob_matches(pattern: str, name: str) -> bool:
    """Whether the glob matches the whole name. `*` and `?` match no `/`, `[^a-z]` negates, a backslash quotes.

    A malformed glob never matches.
    """
    if pattern == name and not _SPECIAL.search(pattern):
        return True
    chunks = _compile(pattern)
    return chunks is not None and _match(chunks, name)


def glob_is_valid(pattern: str) -> bool:
    """Whether the glob is well formed. A malformed glob matches nothing."""
    return _compile(pattern) is not None


@lru_cache(maxsize=4096)
def _compile(pattern: str) -> tuple[_Chunk, ...] | None:
    chunks: list[_Chunk] = []
    rest = pattern
    while rest:
        body = rest.lstrip("*")
        end = _chunk_end(body)
        items = _chunk_items(body[:end])
        if items is None:
            return None
        chunks.append((body != rest, items))
        rest = body[end:]
    return tuple(chunks)


def _chunk_end(text: str) -> int:
    """The index of the next star outside brackets. As in Go, any `]` closes the bracket, even one right after `[`."""
    inside, position = False, 0
    while position < len(text):
        match text[position]:
            case "\\":
                position += 1
            case "[":
                inside = True
            case "]":
                inside = False
            case "*" if not inside:
                return position
            case _:
                pass
        position += 1
    return len(text)


def _chunk_items(chunk: str) -> tuple[str | _Class | None, ...] | None:
    items: list[str | _Class | None] = []
    position = 0
    while position < len(chunk):
        character = chunk[position]
        position += 1
        if character == "?":
            items.append(None)
        elif character == "\\":
            if position == len(chunk):
                return None
            items.append(chunk[position])
            position += 1
        elif character == "[":
            parsed = _parse_class(chunk, position)
            if parsed is None:
                return None
            item, position = parsed
            items.append(item)
        else:
            items.append(character)
    return tuple(items)


def _parse_class(chunk: str, position: int) -> tuple[_Class, int] | None:
    negated = chunk.startswith("^", position)
    position += negated
    ranges: list[tuple[str, str]] = []
    while not (ranges and chunk.startswith("]", position)):
        low = _class_character(chunk, position)
        if low is None:
            return None
        high, position = low
        bottom = high
        if chunk.startswith("-", position):
            top = _class_character(chunk, position + 1)
            if top is None:
                return None
            high, position = top
        ranges.append((bottom, high))
    return _Class(negated, tuple(ranges)), position + 1


def _class_character(chunk: str, position: int) -> tuple[str, int] | None:
    """One character of a bracket expression and the index of the next one. None if it is malformed.

    The last character of the glob is malformed too, because at least the closing `]` must follow.
    """
    if chunk.startswith("\\", position):
        position += 1
    elif chunk.startswith(("-", "]"), position):
        return None
    return (chunk[position], position + 1) if position + 1 < len(chunk) else None


def _match(chunks: tuple[_Chunk, ...], name: str) -> bool:
    position = 0
    for index, (star, items) in enumerate(chunks):
        last = index == len(chunks) - 1
        if star and not items:
            return "/" not in name[position:]
        end = _match_chunk(items, name, position)
        # The last chunk must reach the end of the name. An earlier one takes the first place where it matches.
        while end is None or (last and end != len(name)):
            if not star or position >= len(name) or name[position] == "/":
                return False
            position += 1
            end = _match_chunk(items, name, position)
        position = end
    return position == len(name)


def _match_chunk(items: tuple[str | _Class | None, ...], name: str, position: int) -> int | None:
    if position + len(items) > len(name):
        return None
    for item, character in zip(items, name[position:], strict=False):
        if isinstance(item, str):
            if item != character:
                return None
        elif item is None:
            if character == "/":
                return None
        elif any(low <= character <= high for low, high in item.ranges) == item.negated:
            return None
    return position + len(items)
