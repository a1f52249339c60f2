"""What can be asked of a daemon, one method each."""

import binascii
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from xchronos.errors import ApiError
from xchronos.wire.limits import EXECUTIONS_LISTED, FIRE_TIMES, RECENT_EXECUTIONS, UNITS_PER_PAGE
from xchronos.wire.messages import (
    Asked,
    Calendar,
    CordonRequest,
    DaemonStatus,
    DrainRequest,
    DropInText,
    ExecutionIds,
    Explanation,
    MetadataRequest,
    StartRequest,
    StopRequest,
    Submission,
    SubmissionResult,
    UnitPage,
    UnitSummary,
    Verified,
)

if TYPE_CHECKING:
    from xchronos.wire.details import Executions, ExecutionStatus, MachineStatus, UnitDetail

ADDRESS = "http://127.0.0.1:7480"
"""Where a daemon answers unless told otherwise."""

ADDRESS_VARIABLE = "XCHRONOS_API"
TOKEN_VARIABLE = "XCHRONOS_TOKEN"  # noqa: S105 - the name of a variable
AnswerT = TypeVar("AnswerT")


class Client:
    """A daemon's API.

    Every method raises ApiError: with the HTTP status, the server's text and the problems of a refused file; with
    status 0 when there is no answer. `timeout` is in seconds; following a log has none.

    Args:
        address: `http://host:port` or `unix:///path`; else the environment's XCHRONOS_API, else ADDRESS.
        token: the API's token; else the environment's XCHRONOS_TOKEN.
        timeout: how long the daemon may take to answer.
    """

    def __init__(self, address: str = "", *, token: str = "", timeout: float = 30.0) -> None:
        self.address = address or os.environ.get(ADDRESS_VARIABLE) or ADDRESS
        self._token = token or os.environ.get(TOKEN_VARIABLE, "")
        self._timeout = timeout

    # -- units --------------------------------------------------------------------------------------------------------

    def units(self, *, limit: int = 0) -> Iterator[UnitSummary]:
        """Every unit by name, or the first `limit`; fetched in pages."""
        left, after = limit, ""
        while True:
            query = {"limit": min(left, UNITS_PER_PAGE) if limit else UNITS_PER_PAGE}
            page = self._get(UnitPage, "units", query=query | ({"after": after} if after else {}))
            yield from page.units
            left -= len(page.units)
            after = page.after
            if not after or (limit and left <= 0):
                return

    def unit(self, name: str, *, recent: int = RECENT_EXECUTIONS) -> "UnitDetail":
        """Everything about a unit, with its last `recent` executions."""
        from xchronos.wire.details import UnitDetail  # noqa: PLC0415 - records are slow to import

        return self._get(UnitDetail, "units", name, query={"recent": recent})

    def submit(
        self, name: str, text: bytes, *, drop_ins: Iterable[tuple[str, str]] = (), path: str = "", by: str = ""
    ) -> SubmissionResult:
        """Submit a unit file. A refused one is an ApiError with status 422 and its problems."""
        return self._send(SubmissionResult, "PUT", "units", name, body=_submission(text, drop_ins, path, by))

    def verify(self, name: str, text: bytes, *, drop_ins: Iterable[tuple[str, str]] = (), path: str = "") -> Verified:
        """What the daemon would say to a unit file; nothing is stored."""
        return self._send(Verified, "POST", "verify", query={"name": name}, body=_submission(text, drop_ins, path, ""))

    def destroy(self, name: str) -> Asked:
        """Remove a unit, with its history; what runs of it is stopped."""
        return self._send(Asked, "DELETE", "units", name)

    def start(self, name: str, *, payload: str = "", by: str = "") -> ExecutionIds:
        """Run a unit once, now: one execution per copy, none of a unit that is kept running and runs already."""
        return self._send(ExecutionIds, "POST", "units", name, "start", body=StartRequest(payload, by))

    def stop(self, target: str, *, reason: str = "", by: str = "") -> ExecutionIds:
        """Stop an execution (an id has slashes), or what runs of a unit. The ids of those that were asked to."""
        kind = "executions" if "/" in target else "units"
        parts = (kind, *target.split("/"), "stop")
        return self._send(ExecutionIds, "POST", *parts, body=StopRequest(reason, by))

    def pause(self, name: str) -> Asked:
        """Let nothing of a unit fire until it is resumed."""
        return self._send(Asked, "POST", "units", name, "pause")

    def resume(self, name: str) -> Asked:
        """Let a paused unit fire again."""
        return self._send(Asked, "POST", "units", name, "resume")

    def explain(self, name: str) -> Explanation:
        """Why a unit is, or is not, running."""
        return self._get(Explanation, "units", name, "explain")

    def calendar(self, name: str, n: int = FIRE_TIMES) -> Calendar:
        """The next `n` fire times of a unit."""
        return self._get(Calendar, "units", name, "calendar", query={"n": n})

    # -- executions ---------------------------------------------------------------------------------------------------

    def executions(self, unit: str = "", *, states: Iterable[str] = (), limit: int = EXECUTIONS_LISTED) -> "Executions":
        """The newest executions, of one unit or all; `states` are states and outcomes, none means any."""
        from xchronos.wire.details import Executions  # noqa: PLC0415 - records are slow to import

        query: dict[str, object] = {"limit": limit, "state": list(states)}
        return self._get(Executions, "executions", query=query | ({"unit": unit} if unit else {}))

    def execution(self, execution_id: str) -> "ExecutionStatus":
        """One execution, with the progress of its running attempt."""
        from xchronos.wire.details import ExecutionStatus  # noqa: PLC0415 - records are slow to import

        return self._get(ExecutionStatus, "executions", *execution_id.split("/"))

    def logs(
        self, execution_id: str, *, step: str = "", attempt: int = 0, tail: int | None = None, follow: bool = False
    ) -> Iterator[bytes]:
        """What an execution printed, in parts; live until its attempt has ended with `follow`."""
        from xchronos.client.transport import exchange, path_of  # noqa: PLC0415 - http.client is slow to import

        query: dict[str, object] = {"follow": str(follow).lower()}
        query |= {"step": step} if step else {}
        query |= {"attempt": attempt} if attempt else {}
        query |= {"tail": tail} if tail is not None else {}
        return exchange(
            self.address,
            "GET",
            path_of("executions", *execution_id.split("/"), "logs"),
            query=query,
            token=self._token,
            timeout=None if follow else self._timeout,
        )

    # -- machines, and the daemon -------------------------------------------------------------------------------------

    def machines(self) -> tuple["MachineStatus", ...]:
        """The machines that are alive, and those that are gone and still known."""
        from xchronos.wire.details import Machines  # noqa: PLC0415 - records are slow to import

        return self._get(Machines, "machines").machines

    def machine(self, machine: str) -> "MachineStatus":
        """One machine."""
        from xchronos.wire.details import MachineStatus  # noqa: PLC0415 - records are slow to import

        return self._get(MachineStatus, "machines", machine)

    def cordon(self, machine: str, *, reason: str = "") -> Asked:
        """Keep new work from a machine."""
        return self._send(Asked, "POST", "machines", machine, "cordon", body=CordonRequest(reason))

    def uncordon(self, machine: str) -> Asked:
        """Let a machine have work again; ends a drain."""
        return self._send(Asked, "POST", "machines", machine, "uncordon")

    def drain(self, machine: str, seconds: float, *, reason: str = "") -> Asked:
        """Cordon a machine and have what it runs leave it, within `seconds`."""
        return self._send(Asked, "POST", "machines", machine, "drain", body=DrainRequest(seconds, reason))

    def set_metadata(self, machine: str, values: Mapping[str, str], *, unset: Iterable[str] = ()) -> Asked:
        """Give a machine metadata, and take the keys `unset` from it."""
        body = MetadataRequest(dict(values), tuple(unset))
        return self._send(Asked, "PATCH", "machines", machine, "metadata", body=body)

    def forget(self, machine: str) -> Asked:
        """Remove what is still wanted of a machine that is gone."""
        return self._send(Asked, "DELETE", "machines", machine)

    def status(self) -> DaemonStatus:
        """The daemon's overview."""
        return self._get(DaemonStatus, "status")

    # -- requests -----------------------------------------------------------------------------------------------------

    def _get(self, kind: type[AnswerT], *parts: str, query: Mapping[str, object] | None = None) -> AnswerT:
        return self._send(kind, "GET", *parts, query=query)

    def _send(
        self,
        kind: type[AnswerT],
        method: str,
        *parts: str,
        query: Mapping[str, object] | None = None,
        body: msgspec.Struct | None = None,
    ) -> AnswerT:
        from xchronos.client.transport import exchange, path_of  # noqa: PLC0415 - http.client is slow to import

        answer = b"".join(
            exchange(
                self.address,
                method,
                path_of(*parts),
                query=query,
                body=msgspec.json.encode(body) if body is not None else None,
                token=self._token,
                timeout=self._timeout,
            )
        )
        try:
            return msgspec.json.decode(answer, type=kind)
        except msgspec.MsgspecError as error:
            raise ApiError(f"{self.address} answered something unexpected ({error}): is this an xchronosd?") from error


def _submission(text: bytes, drop_ins: Iterable[tuple[str, str]], path: str, by: str) -> Submission:
    files = tuple(DropInText(name, content) for name, content in drop_ins)
    try:
        return Submission(text.decode(), drop_ins=files, path=path, by=by)
    except UnicodeDecodeError:
        return Submission(
            text_base64=binascii.b2a_base64(text, newline=False).decode("ascii"), drop_ins=files, path=path, by=by
        )
