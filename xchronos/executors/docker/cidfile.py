"""`--cidfile`: the file that is told the id of the container that a docker line has made."""

import os
from contextlib import suppress
from pathlib import Path

from xchronos.errors import StartRefused
from xchronos.hostfiles import HostFileRefused, read_file


def write_id(path: Path, container: str) -> None:
    """Write a container's id into a new file. Blocks as long as the file system does.

    A file of that very content is one that an earlier daemon has written for this very container.

    Raises:
        StartRefused: there is something else of that name, a file or not.
        OSError: the file cannot be made.
    """
    what = f"container ID file {path}"
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC, 0o666)
    except FileExistsError:
        known = b""
        with suppress(HostFileRefused):  # it is no file, or a large one: it is not ours in any case
            known = read_file(str(path), what)
        if known.decode(errors="replace") != container:
            raise StartRefused(f"{what} exists: another container may be running by it; delete it first") from None
        return
    with open(descriptor, "w", encoding="ascii") as file:  # noqa: PTH123 - of a descriptor
        file.write(container)
