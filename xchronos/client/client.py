"""What can be asked of a daemon: one method for each question."""

import binascii
import os
from collections.abc import Iterable, Iterator, Mapping
from typing import TYPE_CHECKING, TypeVar

import msgspec

from xchronos.errors import ApiError, ConfigError
from xchronos.limits import EXECUTIONS_LISTED, FIRE_TIMES, RECENT_EXECUTIONS, UNITS_PER_PAGE
from xchronos.urls import shown
from xchronos.wire.address import ADDRESS, ADDRESS_VARIABLE, TOKEN_FILE_VARIABLE, token_in
from xchronos.wire.messages import (
    Asked,
    Calendar,
    DaemonStatus,
    DestroyedUnits,
    DropInText,
    ExecutionIds,
    Explanation,
    Submission,
    SubmissionResult,
    UnitPage,
    UnitSummary,
    Verified,
)
from xchronos.wire.requests import (
    CordonRequest,
    DestroyRequest,
    DrainRequest,
    MetadataRequest,
    ResumeRequest,
    StartRequest,
    StopRequest,
)

if TYPE_CHECKING:
    from xchronos.wire.details import Executions, ExecutionStatus, Machines, MachineStatus, UnitDetail

AnswerT = TypeVar("AnswerT")


class Client:
    """A daemon's API.

    Every method raises ApiError for an answer that is an error. It holds the HTTP status, the server's text, and the
    problems of a file that was refused. Its status is 0 when there is no answer.

    Args:
        address: `http://host:port` or `unix:///path`; empty: the environment's XCHRONOS_API, else ADDRESS.
        token: The API's token; empty: the environment's XCHRONOS_TOKEN, else what the file XCHRONOS_TOKEN_FILE holds.
        timeout: How long the daemon may take to answer, in seconds. A log that is followed has no limit.

    Raises:
        ConfigError: the token's file cannot be read, or is empty.
    """

    def __init__(self, address: str = "", *, token: str = "", timeout: float = 30.0) -> None:
        self.address = address or os.environ.get(ADDRESS_VARIABLE) or ADDRESS
        self._token = token or _given_token()
        self._timeout = timeout

    # -- units --------------------------------------------------------------------------------------------------------

    def units(self, *, limit: int = 0) -> Iterator[UnitSummary]:
        """The units by name, fetched page after page: every one, or with `limit` the first so many."""
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
        """Submit a unit file.

        Args:
            name: The unit's name.
            text: The file, byte for byte.
            drop_ins: The names and texts of its drop-ins, in the order in which they count.
            path: What problems call the file.
            by: Who submits it, for the record.

        Raises:
            ApiError: with status 422 and the problems, when the file is refused.
        """
        return self._send(SubmissionResult, "PUT", "units", name, body=_submission(text, drop_ins, path, by))

    def verify(self, name: str, text: bytes, *, drop_ins: Iterable[tuple[str, str]] = (), path: str = "") -> Verified:
        """What the daemon would say to a unit file. Nothing is stored. The arguments are those of `submit`."""
        return self._send(Verified, "POST", "verify", query={"name": name}, body=_submission(text, drop_ins, path, ""))

    def destroy(self, name: str, *, keep_file: bool = False) -> Asked:
        """Remove a unit and its history. What runs of it is stopped.

        A unit that comes from a file of a directory is refused, unless with `keep_file`: the file may bring it back.
        """
        return self._send(Asked, "DELETE", "units", name, query={"keep_file": "true"} if keep_file else None)

    def destroy_many(self, names: Iterable[str], *, keep_file: bool = False) -> DestroyedUnits:
        """Remove units as `destroy` does with one, at most `limits.UNITS_DESTROYED`; what became of each.

        A daemon of an older version does not know this request: ApiError has status 404 or 405 then.
        """
        return self._send(DestroyedUnits, "POST", "destroy", body=DestroyRequest(tuple(names), keep_file))

    def remove_unreadable(self, key: str) -> Asked:
        """Remove a record of the store that cannot be read, by the key that a list shows."""
        return self._send(Asked, "DELETE", "unreadable", query={"key": key})

    def start(self, name: str, *, payload: str = "", by: str = "") -> ExecutionIds:
        """Run a unit once, now: one execution for each copy.

        A unit that is kept running and runs already is left alone: the answer then has no executions.
        """
        return self._send(ExecutionIds, "POST", "units", name, "start", body=StartRequest(payload, by))

    def stop(self, target: str, *, reason: str = "", by: str = "") -> ExecutionIds:
        """Stop one execution, or everything that runs of a unit; the answer names those that were asked to stop.

        `target` is an execution's id when it has a slash, else a unit's name.
        """
        kind = "executions" if "/" in target else "units"
        parts = (kind, *target.split("/"), "stop")
        return self._send(ExecutionIds, "POST", *parts, body=StopRequest(reason, by))

    def pause(self, name: str) -> Asked:
        """Let nothing of a unit fire until it is resumed."""
        return self._send(Asked, "POST", "units", name, "pause")

    def resume(self, name: str, *, skip_missed: bool = False) -> Asked:
        """Let a paused unit fire again.

        With `skip_missed`, nothing starts for what fell into the pause; else the unit's misfire policy decides.
        """
        body = ResumeRequest(skip_missed) if skip_missed else None
        return self._send(Asked, "POST", "units", name, "resume", body=body)

    def explain(self, name: str) -> Explanation:
        """Why a unit is, or is not, running."""
        return self._get(Explanation, "units", name, "explain")

    def calendar(self, name: str, n: int = FIRE_TIMES) -> Calendar:
        """The next `n` fire times of a unit."""
        return self._get(Calendar, "units", name, "calendar", query={"n": n})

    # -- executions ---------------------------------------------------------------------------------------------------

    def executions(self, unit: str = "", *, states: Iterable[str] = (), limit: int = EXECUTIONS_LISTED) -> "Executions":
        """The newest executions, of one unit or (`unit` empty) of all.

        `states` are states (`running`) and outcomes (`failed`) of which an execution must have one; empty: any.
        """
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
        """What an execution printed, in parts.

        Args:
            execution_id: The execution.
            step: The name of one step (`start-0`); empty: every step.
            attempt: The number of an attempt, from 1; 0: the latest.
            tail: How many lines at the end of what there is come first; None: all of them.
            follow: Whether to go on until the attempt has ended.
        """
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
        """The machines that are alive, and those that are gone and of which something is still wanted or placed."""
        return self.list_machines().machines

    def list_machines(self) -> "Machines":
        """The same, with the records about machines that cannot be read."""
        from xchronos.wire.details import Machines  # noqa: PLC0415 - records are slow to import

        return self._get(Machines, "machines")

    def machine(self, machine: str) -> "MachineStatus":
        """One machine."""
        from xchronos.wire.details import MachineStatus  # noqa: PLC0415 - records are slow to import

        return self._get(MachineStatus, "machines", machine)

    def cordon(self, machine: str, *, reason: str = "") -> Asked:
        """Keep new work from a machine."""
        return self._send(Asked, "POST", "machines", machine, "cordon", body=CordonRequest(reason))

    def uncordon(self, machine: str) -> Asked:
        """Let a machine have work again. This ends a drain."""
        return self._send(Asked, "POST", "machines", machine, "uncordon")

    def drain(self, machine: str, seconds: float, *, reason: str = "") -> Asked:
        """Cordon a machine and have what it runs leave it, within `seconds`."""
        return self._send(Asked, "POST", "machines", machine, "drain", body=DrainRequest(seconds, reason))

    def set_metadata(self, machine: str, values: Mapping[str, str], *, unset: Iterable[str] = ()) -> Asked:
        """Give a machine these values of metadata, and take the keys `unset` from it."""
        body = MetadataRequest(dict(values), tuple(unset))
        return self._send(Asked, "PATCH", "machines", machine, "metadata", body=body)

    def forget(self, machine: str) -> Asked:
        """Forget what is still wanted of a machine that is gone."""
        return self._send(Asked, "DELETE", "machines", machine)

    def status(self) -> DaemonStatus:
        """The overview of the daemon and its cluster."""
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
            raise ApiError(
                f"{shown(self.address)} answered something unexpected ({error}): is this an xchronosd?"
            ) from error


def _given_token() -> str:
    try:
        return token_in(os.environ)
    except (OSError, ValueError) as error:
        why = (error.strerror if isinstance(error, OSError) else None) or str(error)
        raise ConfigError(f"{TOKEN_FILE_VARIABLE}: {os.environ[TOKEN_FILE_VARIABLE]}: {why}") from error


def _submission(text: bytes, drop_ins: Iterable[tuple[str, str]], path: str, by: str) -> Submission:
    files = tuple(DropInText(name, content) for name, content in drop_ins)
    try:
        return Submission(text.decode(), drop_ins=files, path=path, by=by)
    except UnicodeDecodeError:
        return Submission(
            text_base64=binascii.b2a_base64(text, newline=False).decode("ascii"), drop_ins=files, path=path, by=by
        )
