"""URLs as people may see them: in a log, a reason, a status. What may be a secret in them is left out."""

import re

HIDDEN = "..."
"""What stands for what is left out."""

_URL = re.compile(
    r"""(?P<scheme>[A-Za-z][A-Za-z0-9+.-]*)://
        (?P<authority>[^\s/?\#"'<>]*)
        (?P<path>[^\s?\#"'<>]*)
        (?P<query>\?[^\s\#"'<>]*)?
        (?P<fragment>\#[^\s"'<>]*)?""",
    re.VERBOSE,
)
_PORTS = re.compile(r"(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?(?:,(?:\[[^\]]*\]|[^:]*)(?::[0-9]*)?)*")
_PARAMETER = re.compile(r"([?&;])([^=&;]*)(=[^&;]*)?")


def shown(text: str) -> str:
    """The text, with each URL in it as people may see it: without user and password, and without values of its query.

    What signs a request (`?X-Amz-Signature=`) stands in a query, so only the names of that are kept. A password with
    a slash in it is no valid URL, and is left out all the same.
    """
    return _URL.sub(_shown, text) if "://" in text else text


def _shown(url: "re.Match[str]") -> str:
    authority, path = url["authority"], url["path"]
    if not _PORTS.fullmatch(authority.rpartition("@")[2]) and "@" in path:
        # `user:pass/word@host`: what looks like a port is none.
        authority, path = f"{authority}{path}".rpartition("@")[0] + "@", path.rpartition("@")[2]
    user, at, host = authority.rpartition("@")
    query = _PARAMETER.sub(_named, url["query"] or "")
    fragment = f"#{HIDDEN}" if url["fragment"] else ""
    return f"{url['scheme']}://{HIDDEN if user else ''}{at}{host}{path}{query}{fragment}"


def _named(parameter: "re.Match[str]") -> str:
    # A query without names may be the secret itself.
    separator, name, value = parameter.groups()
    return f"{separator}{name}={HIDDEN}" if value else f"{separator}{HIDDEN}"
