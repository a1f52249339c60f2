"""What an engine tells of a container: its state, its times, and the code of a start that failed."""

import re
from collections.abc import Mapping
from datetime import datetime
from typing import Any

import msgspec

_NOT_FOUND = re.compile(
    r"executable file not found|no such file or directory|system cannot find the file", re.IGNORECASE
)
_NOT_RUNNABLE = re.compile(r"permission denied|is a directory|exec format error", re.IGNORECASE)
_FRACTION = re.compile(r"\.(\d{1,6})\d*")
_NEVER = "0001-01-01"


class State(msgspec.Struct, rename="pascal"):
    """The engine's `State` of a container. Times are as the engine writes them."""

    status: str = ""
    running: bool = False
    exit_code: int = 0
    error: str = ""
    started_at: str = ""
    finished_at: str = ""
    oom_killed: bool = msgspec.field(default=False, name="OOMKilled")
    pid: int = 0

    @property
    def ended(self) -> bool:
        """Whether the container has run and runs no more. Podman says `stopped` between its end and its clean-up."""
        return self.status in ("exited", "dead", "stopped")


class Config(msgspec.Struct, rename="pascal"):
    """The part of a container's `Config` that is needed here. `stop_signal` is "" for SIGTERM."""

    labels: dict[str, str] | None = None
    tty: bool = False
    stop_signal: str = ""


class HostConfig(msgspec.Struct, rename="pascal"):
    """The part of a container's `HostConfig` that is needed here."""

    log_config: dict[str, Any] | None = None


class Inspected(msgspec.Struct, rename="pascal"):
    """The part of `GET /containers/<id>/json` that is needed here."""

    id: str
    name: str = ""
    state: State = msgspec.field(default_factory=State)
    config: Config = msgspec.field(default_factory=Config)
    host_config: HostConfig = msgspec.field(default_factory=HostConfig)

    @property
    def labels(self) -> Mapping[str, str]:
        """The container's labels."""
        return self.config.labels or {}


def moment(text: str) -> datetime | None:
    """The time that the engine's text means, cut to microseconds; None for its zero time."""
    if not text or text.startswith(_NEVER):
        return None
    return datetime.fromisoformat(_FRACTION.sub(r".\1", text))


def seconds_text(text: str) -> str:
    """A time of the engine in the form of its `since` parameter, `seconds.nanoseconds`; "" for its zero time."""
    at = moment(text)
    if at is None:
        return ""
    digits = re.search(r"\.(\d+)", text)
    return f"{int(at.timestamp())}.{(digits[1] if digits else '0').ljust(9, '0')}"


def refused_start(message: str, exit_code: int) -> int:
    """The docker client's exit code for a start that failed: 127 not found, 126 not runnable, else 125.

    dockerd gives it (State.ExitCode). podman leaves that 0, so the text has to tell
    (`test_the_clients_codes_of_a_start_that_failed`).
    """
    if exit_code in (126, 127):
        return exit_code
    if _NOT_FOUND.search(message):
        return 127
    return 126 if _NOT_RUNNABLE.search(message) else 125
