"""Text for a terminal: other people's words made harmless, and the words for how something is in their colour."""

TYPE_CHECKING = False
if TYPE_CHECKING:
    from xchronos.errors import Problem

STYLES = {
    "scheduled": "green",
    "running": "green",
    "succeeded": "green",
    "ready": "green",
    "paused": "yellow",
    "waiting": "yellow",
    "queued": "yellow",
    "delayed": "yellow",
    "cordoned": "yellow",
    "draining": "yellow",
    "drained": "yellow",
    "gone": "red",
    "unread": "red",
    "down": "red",
    "no-engine": "red",
    "missed": "yellow",
    "skipped": "yellow",
    "cancelled": "yellow",
    "failed": "red",
    "refused": "red",
    "timed_out": "red",
    "lost": "red",
}
"""The colour of each word that says how a unit, an execution or a machine is."""

_CONTROL = {code: f"\\x{code:02x}" for code in (*range(32), 127, *range(128, 160))}


def clean(text: str) -> str:
    """The text with every control character as an escape, so that it does nothing to a terminal.

    Descriptions and reasons are written by other people than the one who reads them.
    """
    return text.translate(_CONTROL)


def styled(word: str) -> str:
    """A state or an outcome in its colour; any other word as it is."""
    if word not in STYLES:
        return word
    import click

    return click.style(word, fg=STYLES[word])


def problem_line(problem: "Problem") -> str:
    """One problem as one line. Control characters of the file are shown as escapes."""
    return clean(str(problem))
