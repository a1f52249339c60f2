"""The entry point of `xchronosctl`."""

import errno
import os
import sys

from xchronos import __version__

UNWRITTEN = 1
"""The exit code of a command that did its work, but whose output could not be written."""


def main() -> None:
    """Run the command line.

    Output is written before the interpreter ends. When that fails, Python 3.13 and later end with code 120 or a
    traceback, of which no script knows what they mean.
    """
    code: int | str | None = 0
    try:
        _run()
    except SystemExit as ended:
        code = ended.code
    except OSError as error:  # click writes help outside of any command
        code = _unwritten(error)
    if sys.stdout is not None:
        try:
            sys.stdout.flush()
        except OSError as error:
            code = code or _unwritten(error)
            # What could not be written is written again when the interpreter ends. It has somewhere to go now.
            os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
    if code:
        sys.exit(code)


def _run() -> None:
    if sys.stdout is None:  # the caller has closed it
        sys.exit("xchronosctl: standard output is closed")
    # Scripts often ask for `--version`, so it is answered before anything else is imported.
    if sys.argv[1:] == ["--version"]:
        sys.stdout.write(f"xchronosctl {__version__}\n")
        return
    # And for lists: `quick` prints what it is sure of, with few imports.
    if sys.argv[1:] and sys.argv[1].startswith("list-"):
        from xchronos.cli.quick import listed

        if listed(sys.argv[1:]):
            return
    from xchronos.cli.program import cli

    cli(prog_name="xchronosctl")


def _unwritten(error: OSError) -> int:
    """Say why the output was not written. A reader that has gone, as `head` does, wants to hear nothing."""
    if error.errno != errno.EPIPE and sys.stderr is not None:
        sys.stderr.write(f"xchronosctl: {error.strerror or error}\n")
    return UNWRITTEN
