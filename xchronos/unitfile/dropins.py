"""Drop-ins: which files count for a unit, in which order, and the merged view (systemd.unit(5))."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from xchronos.unitfile.document import UnitFile
from xchronos.unitfile.names import UnitName, dropin_directories


def select_dropins(name: UnitName, files: Mapping[str, Iterable[str]]) -> list[str]:
    """The paths of the drop-ins that count for a unit, in the order in which they are read.

    `files` maps directories (`/etc/xchronos/foo.service.d`) to the file names in them. Those that are not the unit's,
    and names that do not end in `.conf` or begin with a dot, are passed over.

    Of files with one name only one is read: the one in the place that comes first in `files` (the directory that
    holds the `.d` directories; give /etc before /run before /usr/lib), and within one place the one in the most
    specific directory. `service.d` of every place comes last. The rest is sorted by file name, wherever it lives.
    """
    places = dict.fromkeys(directory.rpartition("/")[0] for directory in files)
    *own, of_type = dropin_directories(name)
    order = chain(((place, own_directory) for place in places for own_directory in own), ((p, of_type) for p in places))
    chosen: dict[str, str] = {}
    for place, directory in order:
        path = f"{place}/{directory}" if place else directory
        for file in files.get(path, ()):
            if file.endswith(".conf") and not file.startswith("."):
                chosen.setdefault(file, f"{path}/{file}")
    return [chosen[file] for file in sorted(chosen)]


def merge(main: UnitFile, dropins: Sequence[UnitFile]) -> UnitFile:
    """The unit file as it counts: the main file's options, then those of the drop-ins in the order given.

    Lists append, so a drop-in that is to replace one assigns the empty value first. Every option keeps its own file
    and line. Text and bytes stay those of the main file; the revision covers the drop-ins too. An empty drop-in
    (masked: it hides a less specific one of its name) adds nothing, but an empty main file masks the unit.
    """
    if not dropins:
        return main
    parts = (main, *dropins)
    return UnitFile(
        main.path,
        main.data,
        tuple(chain.from_iterable(part.options for part in parts)),
        tuple(chain.from_iterable(part.headers for part in parts)),
        tuple(chain.from_iterable(part.problems for part in parts)),
        (*main.dropins, *dropins),
    )
