"""The objects in which the rules of `[Container]` collect the settings of its keys."""

from collections.abc import Callable
from enum import Enum, auto
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


class Form(Enum):
    """How quadlet makes values of what stands after a key's `=`. `tests/model/test_container_variables.py` pins it."""

    TEXT = auto()
    """One value, without the double quotes that stand around it. The last assignment counts."""
    RAW = auto()
    """One value, exactly as it is written. Every assignment counts."""
    WORDS = auto()
    """Words, split as in Exec lines, each of which is one value. Every assignment counts."""
    SWITCH = auto()
    """A boolean, which quadlet itself reads, so that it has no variables. The last assignment counts."""


class Rule(NamedTuple):
    """How a key is read, value by value."""

    apply: Callable[[ContainerDraft, str], None]
    form: Form = Form.TEXT
    joined: bool = False
    """Whether podman's command line has the value within a longer word, so that `$NAME` is no word of its own."""
    reset: Callable[[ContainerDraft], None] | None = None
    """What an empty value means. None: what the key had before is dropped."""


class LineRule(NamedTuple):
    """How a key is read that holds several words of podman's command line. With `many` every assignment counts."""

    apply: Callable[[ContainerDraft, list[str]], None]
    many: bool = False
