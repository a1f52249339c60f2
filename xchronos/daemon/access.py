"""Who may call the API of this daemon, by its settings: the token, and whether it may do without one."""

import os
import stat
from pathlib import Path

import structlog

from xchronos.config import Settings
from xchronos.daemon.stores import read_secret
from xchronos.errors import ConfigError

log = structlog.get_logger(__name__)

SECRET_FILES = ("api_token_file", "etcd_password_file", "etcd_key", "consul_token_file", "consul_key")
"""The settings that name a file with a secret."""


def api_token(settings: Settings) -> str:
    """The token that callers must present; empty: none. Raises ConfigError when its file cannot be read or is empty."""
    token = read_secret("api.token", settings.api_token, settings.api_token_file)
    if settings.api_token_file is not None and not token:
        raise ConfigError(f"api.token_file: {settings.api_token_file} is empty: expected the token")
    return token


def check_exposed(settings: Settings, *, private: bool, token: str) -> None:
    """Refuse an API that others reach and that asks for no token: whoever calls it runs what they like here.

    Args:
        settings: The daemon's.
        private: Whether only users of this machine reach the address that it listens on.
        token: What callers must present.

    Raises:
        ConfigError: with what to do.
    """
    if private or token:
        return
    if not settings.api_insecure:
        raise ConfigError(
            f"api.listen: other machines reach {settings.api_listen}, and whoever reaches the API can run containers "
            "here: set api.token_file, listen on 127.0.0.1 or unix:///a/path, or say api.insecure = true when "
            "something else keeps strangers away"
        )
    log.warning("anybody who reaches the API can run containers here (api.insecure)", listen=settings.api_listen)


def warn_of_open_secrets(settings: Settings, given: tuple[str, ...] = ()) -> None:
    """Warn of secrets that others of this machine can read.

    Args:
        settings: The daemon's.
        given: The options with secrets that the command line has: everybody sees them in the list of processes.
    """
    for option in given:
        log.warning("a secret on the command line can be read by everybody on this machine", option=option)
    for name in SECRET_FILES:
        file = getattr(settings, name)
        if file is not None and is_open(file):
            log.warning("a secret's file can be read by everybody on this machine: chmod o-r", file=str(file))


def is_open(file: Path) -> bool:
    """Whether everybody may read a file, as far as its mode says."""
    try:
        return bool(os.stat(file).st_mode & stat.S_IROTH)  # noqa: PTH116 - a link is followed either way
    except OSError:
        return False  # who reads it says so
