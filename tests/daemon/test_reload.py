"""Which settings a running daemon takes up."""

from pathlib import Path
from types import SimpleNamespace
from typing import Any

import msgspec
import pytest

from xchronos.config import Settings
from xchronos.config.settings import SETTINGS
from xchronos.daemon import daemon as built
from xchronos.daemon.daemon import Daemon
from xchronos.daemon.reload import TAKEN_UP, merged

OLD = Settings(state_directory=Path("/s"))


def test_each_setting_is_taken_up_or_needs_a_restart() -> None:
    assert set(SETTINGS) >= TAKEN_UP
    new = Settings(
        state_directory=Path("/other"), log_level="debug", metadata={"a": "b"}, slots=3, api_token="t", settle=1
    )
    result = merged(OLD, new)
    assert list(result.taken_up) == ["metadata", "api.token", "slots", "log.level"]
    assert list(result.need_restart) == ["state_directory", "settle"]
    assert result.settings == Settings(
        state_directory=Path("/s"), log_level="debug", metadata={"a": "b"}, slots=3, api_token="t"
    )


def test_what_is_the_same_changes_nothing() -> None:
    result = merged(OLD, Settings(state_directory=Path("/s")))
    assert (result.settings, result.taken_up, result.need_restart) == (OLD, [], [])


CHANGED: dict[str, Any] = {
    "metadata": {"a": "b"},
    "api_token": "t",
    "api_token_file": Path("token"),
    "read_paths": ("/srv",),
    "slots": 3,
    "memory": 1 << 30,
    "cpus": 2.5,
    "shutdown_grace": 1,
    "log_limit": 1 << 20,
    "log_format": "json",
    "log_level": "debug",
}
"""For each setting that is taken up, another value than its default."""


@pytest.mark.parametrize("name", sorted(TAKEN_UP))
async def test_what_is_taken_up_changes_what_the_daemon_does(tmp_path: Path, monkeypatch: Any, name: str) -> None:
    """A name in `TAKEN_UP` is a promise, which `Daemon.reload` has to keep by a line of its own."""
    value = CHANGED[name]
    if name == "api_token_file":
        value = tmp_path / value
        value.write_text("from the file")
        value.chmod(0o600)
    old = Settings(state_directory=tmp_path)
    logged: list[object] = []
    configured: list[object] = []
    monkeypatch.setattr(built, "configure_logging", lambda *how: logged.append(how))
    told_api: list[object] = []

    async def change(told: object) -> None:
        told_api.append(told)

    daemon: Any = Daemon(old)
    daemon._roles = SimpleNamespace(configure=lambda *what: configured.append(what))
    daemon._host, daemon._api = SimpleNamespace(log_limit=None), SimpleNamespace(change=change)

    def in_force() -> tuple[object, ...]:
        told = (logged[-1], configured[-1], daemon._files.paths, daemon._host.log_limit, told_api[-1])
        return *told, daemon.settings.shutdown_grace  # it is asked for when the daemon stops

    await daemon.reload(old)
    before = in_force()
    await daemon.reload(msgspec.structs.replace(old, **{name: value}))
    assert in_force() != before
