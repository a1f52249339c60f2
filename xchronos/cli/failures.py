"""What went wrong, as a line on stderr and as the exit code of the program."""

import click

from xchronos.cli.text import clean
from xchronos.errors import ApiError, ConfigError, NotFound, UnitFileError, XchronosError

FAILED, USAGE, UNKNOWN, UNREACHABLE, INTERRUPTED = 1, 2, 3, 4, 130
"""Exit codes. 1: failed or refused; 2: used wrongly; 3: no such unit, execution or machine; 4: no daemon answers.

130 is what a shell says of a program that Ctrl-C has ended.
"""


def exit_code(error: XchronosError) -> int:
    """The exit code that tells a script what kind of error this is."""
    if isinstance(error, ApiError):
        return {0: UNREACHABLE, 404: UNKNOWN}.get(error.status, FAILED)
    if isinstance(error, NotFound):
        return UNKNOWN
    return USAGE if isinstance(error, ConfigError) else FAILED


def report(error: XchronosError) -> None:
    """Print an error to stderr, and each problem that it carries on a line of its own."""
    if not isinstance(error, UnitFileError):
        click.echo(f"xchronosctl: {clean(str(error))}", err=True)
    for problem in error.problems if isinstance(error, ApiError | UnitFileError) else ():
        click.echo(clean(str(problem)), err=True)
