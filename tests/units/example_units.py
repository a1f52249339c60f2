"""The example units as the tests read them: as the daemon would, links to templates included."""

from pathlib import Path

from xchronos.intake.scan import list_directory, read_units
from xchronos.intake.selection import select
from xchronos.model.compile.unit import compile_unit
from xchronos.model.unit import Unit

ROOT = Path(__file__).resolve().parents[2]
UNITS = ROOT / "units"
ORIGINAL = "statement_generation.service"


def read_all() -> dict[str, bytes]:
    """Name and text of every unit that a daemon finds in `units/`."""
    selection = select([list_directory(str(UNITS))])
    assert not selection.bad_names
    assert not selection.aliases
    contents = read_units(selection.units.values())
    assert not [content.error for content in contents if content.error]
    return {content.found.name: content.text for content in contents}


def compiled(name: str) -> Unit:
    return compile_unit(name, read_all()[name])
