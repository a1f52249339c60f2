"""What a unit means on this machine. It is worked out once, and all attempts of the unit share it."""

from collections.abc import Collection, Mapping
from pathlib import Path

import msgspec

from xchronos.executors.contract import DirectExecutor, Executor, HostExecutor
from xchronos.hostfiles import HostFiles
from xchronos.model.unit import OWN_SETTINGS, Step, Unit
from xchronos.registry.units import CACHED
from xchronos.unitfile import (
    HostFacts,
    UnitName,
    expand,
    parse_environment,
    parse_variable_names,
    unset_variables,
)

DEFAULT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
"""systemd's default search path for programs, where /sbin and /bin may be directories of their own."""


class HostContext:
    """This machine, as its steps see it.

    Attributes:
        machine: The machine's id.
        facts: What specifiers expand to.
        environ: The daemon's environment, of which PassEnvironment= takes from.
        secrets: The directory of the machine's secrets.
        log_limit: How many bytes of a step's output are kept.
        files: What reads the files that units name.
    """

    def __init__(
        self,
        machine: str,
        facts: HostFacts,
        environ: Mapping[str, str],
        secrets: Path,
        log_limit: int,
        files: HostFiles | None = None,
    ) -> None:
        """Without `files`, this machine has its own, which read any file."""
        self.machine = machine
        self.facts = facts
        self.environ = environ
        self.secrets = secrets
        self.log_limit = log_limit
        self.files = files or HostFiles()


class ResolvedCommand(msgspec.Struct, frozen=True):
    """What a step executes, with its specifiers filled in. `plain`: no word of it holds a variable."""

    program: str
    argv: tuple[str, ...]
    plain: bool


class ResolvedUnit:
    """A unit on one machine.

    Attributes:
        unit: The unit.
        host: The machine.
        name: The unit's name, taken apart.
        executors: This machine's executors, by kind.
        kinds: The kinds of executor that its steps need.
        recoverable: Whether a restarted daemon finds every step of an attempt again.
        direct: The executors, by kind, whose steps may be over as soon as they are begun.
        process_executors: The executors of its steps that run processes of this machine.
    """

    def __init__(self, unit: Unit, host: HostContext, executors: Mapping[str, Executor]) -> None:
        self.unit = unit
        self.host = host
        self.executors = executors
        self.name = UnitName.parse(unit.name)
        self.kinds: Collection[str] = sorted({self.kind_of(step) for step in unit.service.steps})
        self.recoverable = all(executors[kind].recoverable for kind in self.kinds if kind in executors)
        self.direct = {kind: one for kind, one in executors.items() if isinstance(one, DirectExecutor)}
        self.process_executors = [
            one for kind, one in executors.items() if kind in self.kinds and isinstance(one, HostExecutor)
        ]
        self._commands: dict[str, ResolvedCommand] = {}
        self._environments: dict[tuple[str, bool], dict[str, str]] = {}

    def kind_of(self, step: Step) -> str:
        """The kind of executor that runs a step."""
        if step.docker:
            return "docker"
        if self.unit.executor == "docker":
            return "docker" if self.unit.container is not None else "process"
        return self.unit.executor

    def expand(self, text: str) -> str:
        """Fill in the machine's specifiers."""
        return expand(text, self.name, self.host.facts) if "%" in text else text

    def command(self, step: Step) -> ResolvedCommand:
        """What a step with a program executes. Raises InvalidValue when no valid command comes out."""
        known = self._commands.get(step.name)
        if known is None:
            made = step.line.specify(self.name, self.host.facts)
            plain = step.line.no_variables or not any("$" in word for word in made.argv)
            known = self._commands[step.name] = ResolvedCommand(made.path, made.argv, plain)
        return known

    @property
    def working_directory(self) -> str:
        """Where the unit's steps start, with specifiers filled in; empty: it does not say."""
        wanted = self.expand(self.unit.service.working_directory)
        return self.host.facts.home if wanted == "~" else wanted

    def environment(
        self, kind: str, *, in_container: bool, user: Mapping[str, str], files: Mapping[str, str]
    ) -> dict[str, str]:
        """The unit's part of a step's environment, as a new dictionary.

        `user` and `files` are what this machine's users and the files of EnvironmentFile= say: they are read anew for
        each step. Without them it is worked out once.
        """
        if user or files or self.unit.service.environment_files:
            return self._environment(kind, in_container=in_container, user=user, files=files)
        known = self._environments.get((kind, in_container))
        if known is None:
            made = self._environment(kind, in_container=in_container, user=user, files=files)
            known = self._environments[kind, in_container] = made
        return known.copy()

    def _environment(
        self, kind: str, *, in_container: bool, user: Mapping[str, str], files: Mapping[str, str]
    ) -> dict[str, str]:
        service = self.unit.service
        # A container's image has a PATH of its own. Host processes and docker lines begin with systemd's.
        env = {} if in_container else {"PATH": DEFAULT_PATH, "LANG": "C.UTF-8"}
        if kind == "process":
            env |= user
        for variable in parse_variable_names(service.pass_environment, self.name, self.host.facts)[0]:
            if variable in self.host.environ and not variable.startswith(OWN_SETTINGS):
                env[variable] = self.host.environ[variable]
        if service.environment:
            env |= parse_environment(service.environment, self.name, self.host.facts).values
        env |= files
        unset, _ = parse_variable_names(service.unset_environment, self.name, self.host.facts, assignments=True)
        return dict(unset_variables(env, unset)) if unset else env


class ResolvedUnits:
    """The units on one machine, each worked out once for as long as the unit is what it was."""

    def __init__(self, host: HostContext, executors: Mapping[str, Executor]) -> None:
        self._host = host
        self._executors = executors
        self._known: dict[str, ResolvedUnit] = {}

    def of(self, unit: Unit) -> ResolvedUnit:
        """What the unit means on this machine."""
        known = self._known.get(unit.name)
        if known is None or known.unit is not unit:
            if len(self._known) >= CACHED:
                self._known.clear()
            known = self._known[unit.name] = ResolvedUnit(unit, self._host, self._executors)
        return known
