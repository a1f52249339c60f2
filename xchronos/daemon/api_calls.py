"""What the process that schedules and the process that serves the API ask of each other."""

from typing import Literal

import msgspec

from xchronos.api.ports import DaemonReport
from xchronos.api.serving.aside import AsideAnswer, AsideRequest
from xchronos.config import Settings
from xchronos.hostfiles import ReadPaths
from xchronos.ipc import Method
from xchronos.model.records import Attempt


class StoreAccess(msgspec.Struct, frozen=True):
    """How the API's process comes to the job store."""

    name: str
    """See `Store.name`."""

    max_operations: int
    """See `Store.max_operations`."""

    servers: bool = False
    """It is on servers: the process connects to them by itself, as the settings say."""

    file: str = ""
    """The file that it reads by itself; empty: there is none. What is neither on servers nor a file is asked for."""


class ApiStart(msgspec.Struct, frozen=True):
    """What the API's process is built of."""

    settings: Settings
    """The daemon's."""

    machine: str
    """The id of this machine."""

    token: str
    """What every request must bring; empty: nothing."""

    names: tuple[str, ...]
    """See `Services.names`."""

    paths: ReadPaths
    """Which files of this host units may have read."""

    store: StoreAccess
    """The job store."""


class ApiChange(msgspec.Struct, frozen=True):
    """What the settings say anew, when they are read again."""

    token: str
    paths: ReadPaths
    log_format: Literal["console", "json"]
    log_level: Literal["debug", "info", "warning", "error", "critical"]


START: Method[None, ApiStart] = Method("api.start", None, ApiStart)
"""Asked of the daemon first of all."""

READY: Method[str, None] = Method("api.ready", str, None)
"""Tells the daemon the address at which requests are answered from now on."""

REPORT: Method[None, DaemonReport] = Method("daemon.report", None, DaemonReport)
METRICS: Method[None, bytes] = Method("daemon.metrics", None, bytes)
PROGRESS: Method[str, Attempt | None] = Method("agent.progress", str, Attempt | None)
WHERE: Method[str, str | None] = Method("engine.machine_of", str, str | None)

CHANGE: Method[ApiChange, None] = Method("api.change", ApiChange, None)
"""Asked of the API's process when the settings were read again."""

STOP: Method[None, None] = Method("api.stop", None, None)
"""Ends the serving; answered when what was under way has ended. Then the process ends."""

ANSWER: Method[AsideRequest, AsideAnswer] = Method("worker.answer", AsideRequest, AsideAnswer)
"""Asked of the API's worker by the process that has the connections."""

WORKING: Method[None, None] = Method("worker.ready", None, None)
"""Tells that process that the worker answers from now on."""
