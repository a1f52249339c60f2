"""The state in which the keys of `[Container]` gather what they say."""

from collections.abc import Callable
from typing import Any, NamedTuple

import msgspec

from xchronos.dockercli.flags import Flag
from xchronos.dockercli.runflags import RUN


class Secret(msgspec.Struct, frozen=True):
    """One `Secret=`: the file `name` among the machine's secrets.

    `kind` "mount": bound read-only at the absolute path `target`. `kind` "env": its text is the variable `target`.
    """

    name: str
    kind: str = "mount"
    target: str = ""


class ContainerDraft:
    """What the keys have said so far: option values of `docker run`, and what has no option."""

    def __init__(self) -> None:
        self.values: dict[str, Any] = {}
        self.warnings: list[str] = []
        self.image = ""
        self.command: list[str] = []
        self.entrypoint: list[str] | None = None
        self.group = ""
        self.health_test: list[str] | None = None
        self.masked: list[str] | None = None
        self.unmasked_readonly: list[str] | None = None
        self.read_only_tmpfs = True
        self.seccomp_profile = ""
        self.secrets: list[Secret] = []
        self.optional_devices: list[dict[str, str]] = []

    def set(self, name: str, value: str) -> None:
        """Give an option of `docker run` a value, as the command line would."""
        option: Flag = RUN.long[name]
        read = value if option.parse is None else option.parse(value)
        if option.kind == "many":
            self.values.setdefault(option.name, []).append(read)
        else:
            self.values[option.name] = read


class Rule(NamedTuple):
    """How a key is read: `many` takes every assignment, otherwise the last one counts."""

    apply: Callable[[ContainerDraft, str], None]
    many: bool = False
