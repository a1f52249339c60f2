"""Other releases of the time zone database than the installed one: made of tables that a test writes."""

import struct
from collections.abc import Mapping
from pathlib import Path

from xchronos.triggers.zones import ZoneDatabase

EXPIRES = 1_800_000_000
"""When the leap second list of such a release ends."""


def tzif(first: int, transitions: list[tuple[int, int]], footer: str = "") -> bytes:
    """A compiled zone: the offset before the first transition, and (instant, offset from then on), in seconds.

    `footer` is a POSIX rule for the time after the table. Without one the last offset stays.
    """
    offsets = list(dict.fromkeys([first, *(offset for _, offset in transitions)]))
    last = transitions[-1][1] if transitions else first
    footer = footer or f"<X>{_posix(-last)}"
    types = b"".join(struct.pack(">lBB", offset, 0, 0) for offset in offsets)

    def block(width: str) -> bytes:
        times = transitions if width == "q" else []
        head = struct.pack(">4sc15x6l", b"TZif", b"2", 0, 0, 0, len(times), len(offsets), 4)
        instants = struct.pack(f">{len(times)}{width}", *(instant for instant, _ in times))
        return head + instants + bytes(offsets.index(offset) for _, offset in times) + types + b"XXX\0"

    return block("l") + block("q") + b"\n" + footer.replace("<X>", "<XXX>").encode() + b"\n"


def _posix(seconds: int) -> str:
    sign, seconds = ("-", -seconds) if seconds < 0 else ("", seconds)
    return f"{sign}{seconds // 3600:02d}:{seconds % 3600 // 60:02d}:{seconds % 60:02d}"


def release(directory: Path, version: str, zones: Mapping[str, bytes], expires: int = EXPIRES) -> ZoneDatabase:
    """A release with these zones, written into a directory as the package `tzdata` holds them."""
    files = directory / "zoneinfo"
    files.mkdir(parents=True)
    (directory / "zones").write_text("\n".join(sorted(zones)) + "\n")
    (files / "tzdata.zi").write_text(f"# version {version}\n# made for a test\n")
    (files / "leapseconds").write_text(f"#expires {expires} (for a test)\n")
    for name, data in zones.items():
        path = files / name
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(data)
    return ZoneDatabase(directory)
