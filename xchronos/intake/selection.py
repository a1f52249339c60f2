"""Which units a set of directories describes, and by which files (UNITS.md 7). Pure."""

import os.path
from collections.abc import Iterable, Sequence

import msgspec

from xchronos.errors import InvalidValue
from xchronos.intake.files import Found, Listing, Stamp
from xchronos.unitfile.dropins import select_dropins
from xchronos.unitfile.names import UnitName, is_valid_name


class Selection(msgspec.Struct, frozen=True):
    """The units by name; the second names of units; and the files whose name is none, with what is wrong with it."""

    units: dict[str, Found]
    aliases: dict[str, str]
    bad_names: dict[str, str]


def select(listings: Sequence[Listing]) -> Selection:
    """Of files with one name, the one in the directory that is given first counts.

    A link from an instance to its template is an instance. Any other link between two unit names inside these
    directories is a second name of the same unit, and so no unit of its own; a link to a file elsewhere is that file
    under the link's name.
    """
    places = {place for listing in listings for place in (listing.directory, listing.real)}
    files: dict[str, Iterable[str]] = {}
    by_path: dict[str, Stamp] = {}
    for listing in listings:
        for directory, parts in listing.drop_ins.items():
            files[f"{listing.directory}/{directory}"] = parts
            by_path.update((stamp.path, stamp) for stamp in parts.values())
    units: dict[str, Found] = {}
    aliases: dict[str, str] = {}
    bad_names: dict[str, str] = {}
    for listing in listings:
        for name, stamp in listing.units.items():
            if name in units or name in aliases:
                continue
            try:
                parsed = UnitName.parse(name)
            except InvalidValue as error:
                bad_names[stamp.path] = str(error)
                continue
            alias = _alias(parsed, stamp, places)
            if alias:
                aliases[name] = alias
                continue
            stamps: tuple[Stamp, ...] = (stamp,)
            if files and not stamp.empty:
                stamps = (stamp, *(by_path[path] for path in select_dropins(parsed, files)))
            units[name] = Found(name, listing.directory, stamps)
    return Selection(units, aliases, bad_names)


def _alias(name: UnitName, stamp: Stamp, places: set[str]) -> str:
    """The unit that this is a second name of."""
    if not stamp.target or stamp.kind != "file":
        return ""
    directory, target = os.path.split(stamp.target)
    if directory not in places or target in (name.full, name.template) or not is_valid_name(target):
        return ""
    return target
