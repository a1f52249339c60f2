"""Which settings a running daemon takes up."""

from pathlib import Path

from xchronos.config import Settings
from xchronos.config.settings import SETTINGS
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
