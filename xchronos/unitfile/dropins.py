"""Drop-ins: which files belong to a unit, in which order they are read, and how they are merged (systemd.unit(5))."""

from collections.abc import Iterable, Mapping, Sequence
from itertools import chain

from xchronos.unitfile.document import UnitFile
from xchronos.unitfile.names import UnitName, dropin_directories


def select_dropins(name: UnitName, files: Mapping[str, Iterable[str]]) -> list[str]:
    """The paths of the unit's drop-ins, sorted by file name, which is the order in which they are read.

    `files` maps directories (`/etc/xchronos/foo.service.d`) to the file names in them. Directories of other units are
    passed over. So are file names that begin with a dot or do not end in `.conf`.

    A *place* is the directory that holds the `.d` directories. Of several files with the same name, one is read:

    - A file in the unit's own directories beats one in the directory of the type (`service.d`), whatever the places.
    - Then the place that comes first in `files` wins. Give /etc before /run before /usr/lib.
    - Within one place, the most specific directory wins.
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
    """The main file's options, followed by those of the drop-ins in the order given.

    Lists append. A drop-in that replaces a list assigns the empty value first. Every option keeps its own file and
    line. Text and bytes stay those of the main file, and the revision covers the drop-ins too. An empty drop-in adds
    nothing; people use it to hide a less specific drop-in of the same name. An empty main file masks the unit.
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
