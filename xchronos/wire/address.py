"""Where a client finds a daemon's API, and with which token: variables of the environment, and the usual address."""

from collections.abc import Mapping

ADDRESS = "http://127.0.0.1:7480"
"""The address at which a daemon answers unless told otherwise."""

ADDRESS_VARIABLE = "XCHRONOS_API"
"""The environment variable that names the API's address."""

TOKEN_VARIABLE = "XCHRONOS_TOKEN"  # noqa: S105 - the name of a variable
"""The environment variable that holds the API's token."""

TOKEN_FILE_VARIABLE = "XCHRONOS_TOKEN_FILE"  # noqa: S105 - the name of a variable
"""The environment variable that names a file with the API's token and nothing else, unless TOKEN_VARIABLE is set."""


def token_in(environment: Mapping[str, str]) -> str:
    """The token that an environment gives; empty: none.

    Raises:
        OSError: its file cannot be read.
        ValueError: its file is empty, or is no text.
    """
    token, file = environment.get(TOKEN_VARIABLE, ""), environment.get(TOKEN_FILE_VARIABLE, "")
    if token or not file:
        return token
    with open(file, encoding="utf-8") as opened:  # noqa: PTH123 - pathlib is slow to import
        token = opened.read().strip()
    if not token:
        raise ValueError("it is empty")
    return token
