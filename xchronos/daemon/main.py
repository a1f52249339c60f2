"""The entry point of `xchronosd`."""

import asyncio
import gc
import os
import signal
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import structlog

from xchronos import __version__
from xchronos.aio import cancel_and_wait
from xchronos.config import Settings, config_files, describe_settings, load, misspelt_variables
from xchronos.config.settings import SETTINGS, flag_of
from xchronos.daemon.access import warn_of_open_secrets
from xchronos.errors import ConfigError, Conflict, StoreError
from xchronos.limits import SWITCH_SECONDS
from xchronos.logs import configure_logging

if TYPE_CHECKING:
    from xchronos.daemon.daemon import Daemon

log = structlog.get_logger(__name__)

REPEATABLE = ("metadata", "roles", "api_hosts")
"""The settings whose option may be given several times."""


SWITCHES = ("allow_process", "api_insecure")
"""The settings whose option takes no value."""


def _options(command: Any) -> Any:
    """Give a command an option for each setting, in the order of the documentation."""
    for row in reversed(describe_settings()):
        if row.name == "units":
            continue
        words = row.meaning + (f"  [{row.default}]" if row.default else "")
        name = row.flag.removeprefix("--").replace("-", "_")
        if name in SWITCHES:
            command = click.option(row.flag, name, is_flag=True, default=None, help=words)(command)
        else:
            command = click.option(row.flag, name, multiple=name in REPEATABLE, metavar="VALUE", help=words)(command)
    return command


@click.command(context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 120})
@click.version_option(__version__, prog_name="xchronosd")
@click.argument("units", nargs=-1, metavar="[UNIT_DIRECTORY]...")
@click.option("--config", type=click.Path(path_type=Path), help="the TOML file to read instead of the usual one")
@click.option("--health", is_flag=True, help="ask the daemon that runs with these settings how it is, and end")
@_options
def cli(units: tuple[str, ...], config: Path | None, *, health: bool, **flags: object) -> None:
    """Run xchronos on this machine: take in the unit files of UNIT_DIRECTORY, and run them in Docker on time.

    Every setting can also stand in /etc/xchronos/xchronosd.toml, or in the environment (XCHRONOS_STATE_DIRECTORY ...).
    """

    def read() -> Settings:
        return load({"units": units, **flags}, os.environ, config_files(config, os.environ))

    try:
        settings = read()
    except ConfigError as error:
        raise click.UsageError(str(error)) from error
    if health:
        from xchronos.daemon.health import ask  # noqa: PLC0415 - a daemon needs no client

        code, told = ask(settings)
        click.echo(told)
        sys.exit(code)
    # Units have secrets, and the state directory may be one that everybody may look into: a Docker engine that has to
    # mount a directory that is not there makes such a one. Steps get the usual mask.
    os.umask(0o027)
    # Until the daemon can take it up, SIGHUP is ignored; and for good, where whoever started it has it ignored (nohup).
    heard = signal.signal(signal.SIGHUP, signal.SIG_IGN) is not signal.SIG_IGN
    secrets = tuple(flag_of(name) for name, value in flags.items() if value and SETTINGS[name].secret)
    for directory in units:
        if not Path(directory).is_dir():
            hint = ": an option that takes no value stands alone" if directory in ("true", "false") else ""
            click.echo(f"xchronosd: warning: the unit directory {directory} does not exist{hint}", err=True)
    sys.exit(run(settings, read=read if heard else None, sources=config_files(config, os.environ), secrets=secrets))


def run(
    settings: Settings,
    make: "Callable[[Settings], Daemon] | None" = None,
    *,
    read: "Callable[[], Settings] | None" = None,
    sources: Sequence[Path] = (),
    secrets: tuple[str, ...] = (),
) -> int:
    """Run a daemon until it is asked to end.

    Args:
        settings: What the daemon is told.
        make: Builds the daemon, where an embedder has one of its own; None: the usual one.
        read: Reads the settings again, which SIGHUP asks for; raises ConfigError. None: that signal is left as it is.
        sources: The files that the settings were read from.
        secrets: The options with secrets that were given on the command line.

    Returns:
        The exit code: 0, or 1 when the daemon could not run.
    """
    configure_logging(settings.log_format, settings.log_level)
    for warning in misspelt_variables(os.environ):
        log.warning(warning)
    warn_of_open_secrets(settings, secrets)
    for directory in settings.units:
        if not directory.is_dir():
            log.warning("a unit directory does not exist: it is looked for again and again", directory=str(directory))
    try:
        asyncio.run(_serve(settings, make, read, sources))
    except (ConfigError, StoreError, Conflict, PermissionError) as error:
        # The reason tells what is wrong. A traceback would tell where our code noticed it, which helps nobody.
        log.error("xchronosd cannot run", reason=str(error))  # noqa: TRY400
        return 1
    return 0


def calm_collector() -> None:
    """Keep the garbage collector from holding up the event loop: while it looks, nothing else happens.

    What is loaded when this is called is never looked at again. After that, the collector looks at the youngest objects
    when there are 150,000 more of them than before. A daemon under load has some 2,000 attempts of 60 objects under
    way, and these must not set off a look: such looks took a fifth of its time. There is little to find, because an
    execution leaves no cycle of objects. A look at so many objects takes some 30 ms.
    """
    gc.freeze()
    gc.set_threshold(150_000, 5, 100)


async def _serve(
    settings: Settings,
    make: "Callable[[Settings], Daemon] | None",
    read: "Callable[[], Settings] | None",
    sources: Sequence[Path],
) -> None:
    from xchronos.daemon.daemon import Daemon  # noqa: PLC0415 - `xchronosd --help` need not wait for the web framework

    calm_collector()
    sys.setswitchinterval(SWITCH_SECONDS)
    daemon = (make or Daemon)(settings)
    daemon.sources = sources
    loop = asyncio.get_running_loop()

    def stop(number: signal.Signals) -> None:
        if daemon.stopping.is_set():
            # Who asks twice is in a hurry. The next daemon takes up what runs.
            os._exit(128 + number)
        daemon.stopping.set()

    asked = asyncio.Event()
    if read is not None:
        loop.add_signal_handler(signal.SIGHUP, asked.set)
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    reloading = asyncio.create_task(_reload_on(asked, daemon, read), name="reload") if read is not None else None
    try:
        await daemon.run()
    finally:
        if reloading is not None:
            await cancel_and_wait(reloading)


async def _reload_on(asked: asyncio.Event, daemon: "Daemon", read: "Callable[[], Settings]") -> None:
    """Read the settings again whenever that is asked for. What was asked for meanwhile is one reading more."""
    from xchronos.hostfiles import HostFileRefused, HostFiles  # noqa: PLC0415 - as above

    files = HostFiles()  # whatever the file is by now, nothing waits for it
    while True:
        await asked.wait()
        asked.clear()
        try:
            fresh = await files.ask(read, "the settings")
        except (ConfigError, HostFileRefused) as error:
            log.error("the settings cannot be read again; all stay as they are", reason=str(error))  # noqa: TRY400
        else:
            await daemon.reload(fresh)


def main() -> None:
    """The entry point of the program `xchronosd`."""
    cli(prog_name="xchronosd")
