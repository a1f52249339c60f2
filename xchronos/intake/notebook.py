"""What the intake remembers over a restart: unchanged files are not read again, and destroyed units stay away."""

from pathlib import Path

import msgspec
import structlog

from xchronos.durable import write_whole
from xchronos.intake.plan import Taken

log = structlog.get_logger(__name__)


class _IntakeNotes(msgspec.Struct, frozen=True):
    taken: dict[str, Taken]
    v: int = 1


def read_notes(path: Path) -> dict[str, Taken]:
    """What `write_notes` has written; empty when there is no such file, or it is damaged. All files are read then."""
    try:
        notes = msgspec.json.decode(path.read_bytes(), type=_IntakeNotes)
    except FileNotFoundError:
        return {}
    except (OSError, msgspec.MsgspecError) as error:
        log.warning(
            "the intake's notes cannot be read; every file is looked at again", path=str(path), reason=str(error)
        )
        return {}
    return notes.taken if notes.v == 1 else {}


def write_notes(path: Path, taken: dict[str, Taken]) -> None:
    """Keep what was taken in. The file is replaced as a whole, so that a crash leaves the old one or the new one."""
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        # A power cut may leave the file empty: then every unit file is read again.
        write_whole(path, msgspec.json.encode(_IntakeNotes(taken)), "none")
    except OSError as error:
        log.warning("the intake's notes cannot be kept; a restart reads every file", path=str(path), reason=str(error))
