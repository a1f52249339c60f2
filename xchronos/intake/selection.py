"""Which units a set of directories describes, and by which files. All of it is pure.

The rules are systemd's:

* Of files with one name, that in the directory that is given first counts. The others are hidden by it.
* A link from an instance to its template (`report@eu.service` to `report@.service`) is an instance.
* Any other link from one unit name to another one in these directories is a second name: no unit of its own.
* A link to a file elsewhere is that file, under the link's name.
* The drop-ins of all directories count for a unit, in the order of `unitfile.dropins`. A masked unit has none.

`test_links` and `test_drop_ins_of_all_directories_in_their_order` in tests/intake/test_intake_plan.py hold them.
"""

import os.path
from collections.abc import Iterable, Sequence

import msgspec

from xchronos.errors import InvalidValue
from xchronos.intake.files import NOT_TEXT, Found, Listing, Stamp, is_text
from xchronos.unitfile.dropins import select_dropins
from xchronos.unitfile.names import UnitName, is_valid_name


class Selection(msgspec.Struct, frozen=True):
    """What the directories describe."""

    units: dict[str, Found]
    """The units, by name."""

    aliases: dict[str, str]
    """The second names of units, each with the unit's own name."""

    bad_names: dict[str, str]
    """What belongs to no unit, by path, each with what is wrong with it: a name that no unit can have."""


def select(listings: Sequence[Listing]) -> Selection:
    """The units that these directories describe. The directory that counts first comes first."""
    places = {place for listing in listings for place in (listing.directory, listing.real)}
    files: dict[str, Iterable[str]] = {}
    by_path: dict[str, Stamp] = {}
    for listing in listings:
        for directory, parts in listing.drop_ins.items():
            files[f"{listing.directory}/{directory}"] = parts
            by_path.update((stamp.path, stamp) for stamp in parts.values())
    units: dict[str, Found] = {}
    aliases: dict[str, str] = {}
    bad_names: dict[str, str] = {path: problem for listing in listings for path, problem in listing.bad.items()}
    for listing in listings:
        for name, stamp in listing.units.items():
            if name in units or name in aliases:
                continue
            if not is_text(name):
                bad_names[stamp.path] = NOT_TEXT
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
    """The unit of which this is a second name; empty: it is a unit of its own."""
    if not stamp.target or stamp.kind != "file":
        return ""
    directory, target = os.path.split(stamp.target)
    if directory not in places or target in (name.full, name.template) or not is_valid_name(target):
        return ""
    return target
