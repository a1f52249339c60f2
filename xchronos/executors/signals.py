"""Signals by name and number."""

import signal


def signal_number(name: str) -> int:
    """The number of a signal: `SIGTERM`, `TERM`, `15`, `SIGRTMIN+3`. Raises ValueError for no such signal."""
    if name.isdecimal():
        return int(name)
    text = name.upper() if name.upper().startswith("SIG") else f"SIG{name.upper()}"
    base, _, offset = text.partition("+")
    try:
        return int(signal.Signals[base]) + (int(offset) if offset else 0)
    except KeyError:
        raise ValueError(f"{name!r} is no signal; expected a name such as SIGTERM") from None


def signal_name(number: int) -> str:
    """`SIGKILL`; `SIGRTMIN+3` for a real-time signal."""
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"SIGRTMIN+{number - signal.SIGRTMIN}"
