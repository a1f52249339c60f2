"""The entry point of `xchronosctl`."""

import sys

from xchronos import __version__


def main() -> None:
    """Run the command line.

    Scripts often ask for `--version`, so it is answered before anything else is imported.
    """
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"xchronosctl {__version__}\n")
        return
    from xchronos.cli.program import cli

    if sys.stdout is None:  # the caller has closed it
        sys.exit("xchronosctl: standard output is closed")
    cli(prog_name="xchronosctl")
