"""Who may call the API: without a token nobody from elsewhere, and secrets that others can read are told."""

import asyncio
from pathlib import Path

import pytest
from click.testing import CliRunner
from structlog.testing import capture_logs

from xchronos.config import Settings, load
from xchronos.daemon import main
from xchronos.daemon.access import api_token, check_exposed, warn_of_open_secrets
from xchronos.daemon.daemon import Daemon
from xchronos.errors import ConfigError


def settings(tmp_path: Path, **changes) -> Settings:
    return Settings(state_directory=tmp_path / "state", store="memory:", **changes)


@pytest.mark.parametrize("listen", ["0.0.0.0:0", "[::]:0", "10.0.0.7:7480", "myhost:7480"])
def test_an_api_that_others_reach_needs_a_token(tmp_path: Path, listen: str):
    with pytest.raises(ConfigError, match=r"api.listen: other machines reach .*: set api.token_file, listen on 127"):
        asyncio.run(Daemon(settings(tmp_path, api_listen=listen)).run())
    assert not (tmp_path / "state").exists(), "nothing was begun"


@pytest.mark.parametrize("listen", ["127.0.0.1:0", "[::1]:0", "localhost:0", "unix:///nowhere"])
def test_who_listens_here_needs_none(tmp_path: Path, listen: str):
    check_exposed(settings(tmp_path, api_listen=listen), private=True, token="")
    check_exposed(settings(tmp_path), private=False, token="x")


def test_who_says_so_may_do_without(tmp_path: Path):
    with capture_logs() as lines:
        check_exposed(settings(tmp_path, api_insecure=True), private=False, token="")
    assert "api.insecure" in lines[0]["event"]


def test_the_token_comes_from_its_file(tmp_path: Path):
    file = tmp_path / "token"
    file.write_text("secret\n")
    assert api_token(settings(tmp_path, api_token_file=file)) == "secret"
    with pytest.raises(ConfigError, match="both given"):
        api_token(settings(tmp_path, api_token_file=file, api_token="x"))
    file.write_text("\n")
    with pytest.raises(ConfigError, match="is empty: expected the token"):
        api_token(settings(tmp_path, api_token_file=file))
    with pytest.raises(ConfigError, match="cannot be read"):
        api_token(settings(tmp_path, api_token_file=tmp_path / "none"))


@pytest.mark.parametrize(
    "name", ["api_token_file", "etcd_password_file", "etcd_key", "consul_token_file", "consul_key"]
)
@pytest.mark.parametrize(("mode", "told"), [(0o644, 1), (0o604, 1), (0o640, 0), (0o600, 0)])
def test_a_secret_s_file_that_everybody_may_read(tmp_path: Path, name: str, mode: int, told: int):
    file = tmp_path / "secret"
    file.write_text("x")
    file.chmod(mode)
    with capture_logs() as lines:
        warn_of_open_secrets(settings(tmp_path, **{name: file}))
    assert [line["file"] for line in lines] == [str(file)] * told


def test_a_file_that_is_not_there_is_told_by_who_reads_it(tmp_path: Path):
    with capture_logs() as lines:
        warn_of_open_secrets(settings(tmp_path, api_token_file=tmp_path / "none"))
    assert lines == []


@pytest.fixture
def ran(monkeypatch):
    """What the command line makes, without a daemon."""
    kept = []

    def run(settings, **more):
        kept.append((settings, more))
        return 0

    monkeypatch.setattr(main, "run", run)
    monkeypatch.setattr("xchronos.daemon.main.signal.signal", lambda *_: None)
    return kept


def test_secrets_on_the_command_line_are_told(ran, tmp_path: Path):
    done = CliRunner().invoke(main.cli, ["--api-token", "x", "--state-directory", str(tmp_path), "--store", "memory:"])
    assert done.exit_code == 0, done.output
    assert ran[0][1]["secrets"] == ("--api-token",)
    with capture_logs() as lines:
        warn_of_open_secrets(ran[0][0], ran[0][1]["secrets"])
    assert lines[0]["option"] == "--api-token"


def test_a_unit_directory_that_does_not_exist_is_told_at_the_start(ran, tmp_path: Path):
    done = CliRunner().invoke(main.cli, ["--allow-process", "true", str(tmp_path), "--state-directory", str(tmp_path)])
    assert done.exit_code == 0
    assert done.output.count("does not exist") == 1
    assert "the unit directory true does not exist: an option that takes no value stands alone" in done.output


def test_the_switch_and_the_file_can_be_settings(tmp_path: Path):
    file = tmp_path / "token"
    made = load({}, {"XCHRONOS_API_TOKEN_FILE": str(file), "XCHRONOS_API_INSECURE": "true", "HOME": str(tmp_path)})
    assert (made.api_token_file, made.api_insecure) == (file, True)
