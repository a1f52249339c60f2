"""A daemon that is built from its settings: store, roles, intake and API, started in order and stopped in order."""

import asyncio
import ipaddress
import os
import socket
from collections.abc import Mapping, Sequence
from pathlib import Path

import structlog
from prometheus_client import CollectorRegistry, generate_latest

from xchronos.agent.guardian.client import GuardianClient
from xchronos.agent.steps.host_facts import default_machine_id, drawn, host_facts, total_memory
from xchronos.agent.steps.resolved_unit import HostContext
from xchronos.aio import Workshop, cancel_and_wait, first
from xchronos.api.ports import DaemonReport
from xchronos.clock import SystemClock
from xchronos.config import Settings
from xchronos.daemon.access import api_token, check_exposed
from xchronos.daemon.api_calls import ApiChange, ApiStart
from xchronos.daemon.api_supervisor import ApiSupervisor, DaemonAnswers
from xchronos.daemon.read_paths import StoredReads, mark_new, read_paths_of
from xchronos.daemon.reload import merged
from xchronos.daemon.roles import Roles, RolesContext, RolesOptions
from xchronos.daemon.stores import access_to, history_kept, on_servers, open_store
from xchronos.daemon.watchdog import Watchdog
from xchronos.errors import ConfigError
from xchronos.executors.contract import Executor
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.process.executor import ProcessExecutor
from xchronos.filelock import FileLock, InUse
from xchronos.hostfiles import HostFiles
from xchronos.intake.intake import Intake
from xchronos.intake.options import IntakeOptions
from xchronos.intake.publishing import RefusedFiles
from xchronos.logs import configure_logging
from xchronos.model.records import Attempt, Capacity
from xchronos.registry.keys import Keys
from xchronos.registry.registry import Registry
from xchronos.store.contract import Reporting, Store
from xchronos.wire.messages import IntakeFault

log = structlog.get_logger(__name__)


class Daemon:
    """One `xchronosd`.

    To embed one with a store or executors of your own, override `make_store` or `make_executors`.
    """

    def __init__(self, settings: Settings) -> None:
        self.settings = settings
        """What it is told. `reload` exchanges them."""
        self.sources: Sequence[Path] = ()
        """The files that the settings were read from, which no unit may name. Set before `run`."""
        self._roles: Roles | None = None
        self._api: ApiSupervisor | None = None
        self._host: HostContext | None = None
        self._token = ""
        self._clock = SystemClock()
        self._files = HostFiles()
        self.stopping = asyncio.Event()
        """Whoever wants the daemon to end sets it, once."""

    async def reload(self, settings: Settings) -> None:
        """Take up what has changed in the settings, as far as a running daemon can. The log tells what came of it."""
        notify(f"RELOADING=1\nMONOTONIC_USEC={self._clock.monotonic()}")
        result = merged(self.settings, settings)
        now = self.settings = result.settings
        configure_logging(now.log_format, now.log_level)
        self._files.paths = read_paths_of(now, self.sources)
        if self._host is not None:
            self._host.log_limit = now.log_limit
        if self._roles is not None:
            self._roles.configure(now.metadata, _capacity(now))
        say = log.warning if result.need_restart else log.info
        say(
            "settings read again",
            taken_up=list(result.taken_up),
            need_restart=list(result.need_restart),
        )
        if self._api is not None:
            await self._api.change(self._changed())
        if self._roles is not None:
            notify("READY=1")

    def _changed(self) -> ApiChange:
        now = self.settings
        try:
            self._token = api_token(now)
        except ConfigError as error:
            log.error("the API's token stays as it was", reason=str(error))  # noqa: TRY400 - the reason tells it
        return ApiChange(self._token, self._files.paths, now.log_format, now.log_level)

    async def run(self) -> None:
        """Run until `stopping` is set. Then take in nothing more, let attempts end, and record how they ended.

        Raises:
            ConfigError: a setting cannot be.
            StoreError: the job store is there, and cannot be used.
        """
        settings = self.settings
        if "api" in settings.roles:
            private = _is_private(_where(settings.api_listen)[0])
            check_exposed(settings, private=private, token=api_token(settings))
        try:
            settings.state_directory.mkdir(parents=True, exist_ok=True, mode=0o700)
        except OSError as error:
            raise ConfigError(f"state_directory {settings.state_directory}: {error.strerror}") from None
        lock = self._alone()
        try:
            mark_new(settings.state_directory)
            self._files.paths = read_paths_of(settings, self.sources)
            await self._run_alone()
        finally:
            lock.release()

    def _alone(self) -> FileLock:
        """The lock of the state directory, which is this daemon's alone.

        Two daemons of one directory would take each other's attempts for their own, or remove them as leftovers.

        Raises:
            ConfigError: another daemon has the directory, or it cannot be locked.
        """
        state = self.settings.state_directory
        try:
            return FileLock(state / "xchronosd.lock")
        except InUse as error:
            raise ConfigError(
                f"state_directory {state} is in use by the process {error.holder}: every xchronosd needs one of its own"
            ) from None
        except OSError as error:
            raise ConfigError(f"state_directory {state}: xchronosd.lock: {error.strerror}") from None

    async def _run_alone(self) -> None:
        executors = self.make_executors()
        answers: asyncio.Future[DaemonAnswers] = asyncio.get_running_loop().create_future()
        serving = self._serving(answers)
        try:
            guarding = self._guarding(executors)
            if guarding is not None:
                await guarding.revive()
            store = await self._store_or_stop()
            if store is not None:
                try:
                    await self._run_on(store, executors, guarding, answers, serving)
                finally:
                    await store.close()
        finally:
            if serving is not None:
                await cancel_and_wait(serving)
            for executor in executors.values():
                await executor.close()

    def _serving(self, answers: "asyncio.Future[DaemonAnswers]") -> "asyncio.Task[None] | None":
        """Begin to start the process that serves the API, while everything else begins. Raises ConfigError."""
        if "api" not in self.settings.roles:
            return None
        self._api = ApiSupervisor(*_where(self.settings.api_listen), answers, self._clock)
        return asyncio.create_task(self._api.run(), name="api")

    async def make_store(self) -> Store:
        """Open the job store, which the daemon closes when it ends. Raises StoreError."""
        return await open_store(self.settings, self._clock)

    async def _store_or_stop(self) -> Store | None:
        """The job store; None when the daemon is asked to end before the store answers.

        `test_a_daemon_that_waits_for_its_store_can_be_stopped` in tests/daemon/test_stores.py holds this.
        """
        return await first(self.make_store(), self.stopping.wait())

    def make_executors(self) -> dict[str, Executor]:
        """Make what steps are run with, by kind. The daemon closes them when it ends."""
        settings = self.settings
        executors: dict[str, Executor] = {
            "docker": DockerExecutor(
                settings.namespace or "default",
                settings.docker_host or None,
                owner=drawn(settings.state_directory / "instance"),
                files=self._files,
            )
        }
        if settings.allow_process:
            executors["process"] = ProcessExecutor(settings.state_directory / "processes")
        return executors

    def _guarding(self, executors: Mapping[str, Executor]) -> GuardianClient | None:
        """What ends the steps that must not outlive this machine's lease; None when nothing has to.

        With a store that no other machine can use, nobody can take over what runs here.
        """
        settings = self.settings
        if not on_servers(settings) or "agent" not in settings.roles:
            return None
        docker, process = executors.get("docker"), executors.get("process")
        return GuardianClient(
            settings.state_directory / "guardian",
            docker=docker.host if isinstance(docker, DockerExecutor) else "",
            namespace=settings.namespace or "default",
            owner=drawn(settings.state_directory / "instance"),
            processes=settings.state_directory / "processes" if isinstance(process, ProcessExecutor) else None,
        )

    async def _run_on(
        self,
        store: Store,
        executors: dict[str, Executor],
        guarding: GuardianClient | None,
        answers: "asyncio.Future[DaemonAnswers]",
        serving: "asyncio.Task[None] | None",
    ) -> None:
        settings, clock = self.settings, self._clock
        self._token = api_token(settings)
        state = settings.state_directory
        machine = settings.machine_id or default_machine_id(state)
        keys = Keys(settings.namespace)
        metrics = CollectorRegistry()
        watchdog, compiling = Watchdog(metrics), Workshop("units")
        attempts = state / "attempts"
        place = HostContext(
            machine, host_facts(machine), os.environ, state / "secrets", settings.log_limit, self._files
        )
        roles = frozenset(settings.roles)
        running = Roles(
            RolesContext(store, keys, clock, place, executors, attempts, guarding, metrics, compiling),
            RolesOptions(
                instance=drawn(state / "instance"),
                roles=roles,
                engine_expected=engine_expected(settings, os.environ),
                metadata=settings.metadata,
                capacity=_capacity(settings),
                address=_advertised(settings.api_listen, place.facts.hostname) if "api" in roles else "",
                ttl=settings.heartbeat_ttl,
                history=history_kept(settings),
                remembers=True,
                alone=not on_servers(settings),
            ),
        )
        self._host, self._roles = place, running
        registry = Registry(store, keys, running.engine, compiling)
        log.info("xchronosd starts", machine=machine, store=settings.store, state=str(state), roles=sorted(roles))
        await running.start()
        told = IntakeOptions(machine=machine, settle=settings.settle, notes=state / "intake.json")
        intake = Intake(registry, clock, settings.units, told)
        reads = StoredReads(registry, self._files, place.facts, clock, compiling)
        parts = [
            asyncio.create_task(running.wait(), name="roles"),
            asyncio.create_task(watchdog.run(), name="watchdog"),
            asyncio.create_task(reads.run(), name="stored reads"),
        ]
        if "intake" in roles and settings.units:
            parts.append(asyncio.create_task(intake.run(), name="intake"))
            told_of = RefusedFiles(store, keys, clock, machine, intake.problems)
            parts.append(asyncio.create_task(told_of.run(), name="refused files"))
        if serving is not None:
            answers.set_result(self._answers(store, running, intake, watchdog, reads))
            parts.append(serving)
        else:
            _ready("none")
        try:
            await self._until_stopped(parts)
        finally:
            log.info("xchronosd stops")
            notify("STOPPING=1")
            await cancel_and_wait(*parts)
            await running.stop(self.settings.shutdown_grace)
            compiling.close()

    def _answers(
        self, store: Store, running: Roles, intake: Intake, watchdog: Watchdog, reads: StoredReads
    ) -> DaemonAnswers:
        """What the process that serves the API is answered."""
        machine, agent, engine = running.machine, running.agent, running.engine

        def start() -> ApiStart:
            names = (*self.settings.api_hosts, machine.hostname)
            return ApiStart(
                self.settings, machine.id, self._token, names, self._files.paths, access_to(store, self.settings)
            )

        def report() -> DaemonReport:
            return DaemonReport(
                tuple(running.health()),
                (*running.notes(), *reads.notes()),
                tuple(
                    IntakeFault(each.path, "\n".join(each.messages), each.since, each.revision)
                    for each in intake.problems()
                ),
                watchdog.told(),
                tuple(store.faults()) if isinstance(store, Reporting) else (),
            )

        async def metrics() -> bytes:
            return await asyncio.to_thread(generate_latest, running.metrics)

        async def progress(execution_id: str) -> Attempt | None:
            return await agent.progress(execution_id) if agent is not None else None

        async def machine_of(execution_id: str) -> str | None:
            return await engine.machine_of(execution_id) if engine is not None else None

        return DaemonAnswers(
            start=start, store=store, ready=_ready, report=report, metrics=metrics, progress=progress,
            machine_of=machine_of,
        )  # fmt: skip

    async def _until_stopped(self, parts: "list[asyncio.Task[None]]") -> None:
        """Wait for `stopping`. A part of the daemon that ends before it is set has failed, and so has the daemon."""
        if await first(self.stopping.wait(), asyncio.wait(parts, return_when=asyncio.FIRST_COMPLETED)):
            return
        ended = next(part for part in parts if part.done())
        await ended
        raise RuntimeError(f"{ended.get_name()} ended by itself")


def _capacity(settings: Settings) -> Capacity:
    """How much units may ask for on this machine: what it has, where the settings do not say."""
    return Capacity(
        slots=settings.slots,
        memory=settings.memory or total_memory(),
        cpus=settings.cpus or float(os.cpu_count() or 1),
    )


def _where(listen: str) -> tuple[str, int]:
    """The host and the port of a listening address. The settings have checked its form."""
    if listen.startswith("unix://"):
        return listen, 0
    host, _, port = listen.rpartition(":")
    return host.strip("[]"), int(port)


def _advertised(listen: str, hostname: str) -> str:
    """The URL by which other machines find this API; empty: they do not.

    An API that listens on every address is found by the machine's name.
    """
    host, port = _where(listen)
    if listen.startswith("unix://"):
        return ""
    name = hostname if host in ("", "0.0.0.0", "::") else host  # noqa: S104 - compared, not listened on
    return f"http://[{name}]:{port}" if ":" in name else f"http://{name}:{port}"


def _is_private(host: str) -> bool:
    """Whether only users of this machine reach the address."""
    if host.startswith("unix://") or host == "localhost":
        return True
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return False


def _ready(address: str) -> None:
    log.info("xchronosd is ready", api=address)
    notify("READY=1")


def notify(message: str) -> None:
    """Tell systemd what the daemon does, where systemd has started it and asks to be told (sd_notify(3)).

    Nothing depends on that, so it is no matter when nobody listens any more.
    """
    where = os.environ.get("NOTIFY_SOCKET", "")
    if where:
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM | socket.SOCK_NONBLOCK) as peer:
                peer.connect("\0" + where[1:] if where.startswith("@") else where)
                peer.sendall(message.encode())
        except OSError as error:
            log.warning("systemd is not told", message=message, reason=error.strerror)


def engine_expected(settings: Settings, environ: Mapping[str, str]) -> bool:
    """Whether a Docker engine that has never answered is a fault of this machine.

    It is where somebody has said where the engine is, and where nothing but containers may run.
    """
    return bool(settings.docker_host or environ.get("DOCKER_HOST")) or not settings.allow_process
