"""Asking the daemon of this machine how it is: `xchronosd --health`, for the health check of a container."""

from xchronos.client.transport import exchange
from xchronos.config import Settings
from xchronos.errors import ApiError

PATIENCE = 4.0
"""The seconds that the daemon has for its answer. What asks every ten seconds has to know before it asks again."""

_ANYWHERE = {"0.0.0.0": "127.0.0.1", "[::]": "[::1]"}  # noqa: S104 - who listens there is asked here
"""An address that means every address, and the one of them by which this machine reaches itself."""


def ask(settings: Settings) -> tuple[int, str]:
    """Ask the daemon that has these settings.

    Returns:
        The exit code, 0 when it is well, and what there is to print: its answer, or why there is none.
    """
    where = settings.api_listen
    if not where.startswith("unix://"):
        host, _, port = where.rpartition(":")
        where = f"http://{_ANYWHERE.get(host, host)}:{port}"
    try:
        answer = b"".join(exchange(where, "GET", "/healthz", token=settings.api_token, timeout=PATIENCE))
    except ApiError as error:
        return 1, "\n".join([str(error), *map(str, error.problems)])
    return 0, answer.decode("utf-8", "replace").strip()
