"""Short ways to compile a unit file and to look at what came of it."""

from pathlib import Path

from xchronos.errors import UnitFileError
from xchronos.model.compile.unit import compile_unit

EXAMPLE = (Path(__file__).parents[2] / "units/statement_generation.service").read_text()
RUN = "[Service]\nExecStart=/bin/true\n"


def chronos(*lines, name="a.service"):
    """A unit with these lines in its [X-Chronos]."""
    return compile_unit(name, RUN + "[X-Chronos]\n" + "\n".join(lines) + "\n")


def service(*lines, name="a.service"):
    """A unit with these lines in its [Service]."""
    return compile_unit(name, "[Service]\n" + "\n".join(lines) + "\n")


def refused(text, *drop_ins, name="a.service"):
    """What is said about a text that must not compile, one string a problem."""
    try:
        compile_unit(name, text, drop_ins)
    except UnitFileError as error:
        return [str(problem) for problem in error.problems]
    raise AssertionError(f"it compiles:\n{text}")


def warnings(unit):
    """The warnings of a unit that did compile."""
    assert all(problem.severity == "warning" for problem in unit.warnings)
    return [str(problem) for problem in unit.warnings]
