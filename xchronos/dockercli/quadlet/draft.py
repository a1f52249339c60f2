"""The objects in which the rules of `[Container]` collect the settings of its keys."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from xchronos.dockercli.flags import Flag
from xchronos.dockercli.runflags import RUN


class Secret(msgspec.Struct, frozen=True):
    """One `Secret=`: a file in the machine's directory of secrets."""

    name: str
    """The file's name."""
    kind: str = "mount"
    """`mount`: the file is bound read-only into the container. `env`: its text becomes a variable."""
    target: str = ""
    """For `mount` the absolute path in the container, for `env` the name of the variable."""


class ContainerDraft:
    """The settings of the keys read so far. Each rule changes it."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        """Values of options of `docker run`, as `Parsed.values` has them."""
        self.warnings: list[str] = []
        """Warnings of the rule that ran last."""
        self.image = ""
        self.command: list[str] = []
        """The words of `Exec=`."""
        self.entrypoint: list[str] | None = None
        """The words of `Entrypoint=`. None: the image's own."""
        self.group = ""
        self.health_test: list[str] | None = None
        """`Healthcheck.Test`. None: the image's own."""
        self.masked: list[str] | None = None
        """`MaskedPaths`. None: the engine's own."""
        self.unmasked_readonly: list[str] | None = None
        """`ReadonlyPaths` without the paths of `Unmask=`. None: the engine's own."""
        self.read_only_tmpfs = True
        """Whether /run, /tmp and /var/tmp stay writable if the root file system is read-only."""
        self.seccomp_profile = ""
        """The path of a file on the machine, or empty."""
        self.secrets: list[Secret] = []
        self.optional_devices: list[dict[str, str]] = []
        """Entries of `HostConfig.Devices` for devices that a machine may lack."""

    def set(self, name: str, value: str) -> None:
        """Read a value of an option of `docker run` as on the command line, and keep it. Raises InvalidValue."""
        option: Flag = RUN.long[name]
        read = value if option.parse is None else option.parse(value)
        if option.kind == "many":
            self.values.setdefault(option.name, []).append(read)
        else:
            self.values[option.name] = read


class Rule(NamedTuple):
    """How a key is read. `apply` reads one value. With `many` every assignment counts, otherwise only the last."""

    apply: Callable[[ContainerDraft, str], None]
    many: bool = False
