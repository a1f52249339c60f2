"""Where settings come from: files, the environment, the command line, and which of them counts."""

from pathlib import Path

import pytest

from tests.config.config_helpers import HOME, settings, toml
from xchronos.clock import MILLISECOND, SECOND
from xchronos.config import Settings, config_files, load, misspelt_variables
from xchronos.config.settings import SETTINGS
from xchronos.errors import ConfigError


def test_the_defaults():
    assert settings() == Settings(
        units=(),
        state_directory=Path("/home/anna/.local/state/xchronos"),
        store="sqlite:",
        sqlite_synchronous="full",
        etcd_user="",
        etcd_password="",
        etcd_password_file=None,
        etcd_ca=None,
        etcd_cert=None,
        etcd_key=None,
        etcd_server_name="",
        etcd_timeout=5 * SECOND,
        etcd_max_operations=128,
        etcd_history=600 * SECOND,
        consul_prefix="xchronos",
        consul_token="",
        consul_token_file=None,
        consul_ca=None,
        consul_cert=None,
        consul_key=None,
        consul_timeout=5 * SECOND,
        namespace="",
        machine_id="",
        metadata={},
        roles=("scheduler", "agent", "api", "intake"),
        api_listen="127.0.0.1:7480",
        api_token="",
        api_hosts=(),
        docker_host="",
        allow_process=False,
        read_paths=(),
        slots=0,
        memory=0,
        cpus=0.0,
        heartbeat_ttl=10 * SECOND,
        shutdown_grace=10 * SECOND,
        settle=200 * MILLISECOND,
        log_limit=10 * 1024 * 1024,
        log_format="console",
        log_level="info",
    )


def test_where_the_state_lives():
    assert load({}, {}, root=True).state_directory == Path("/var/lib/xchronos")
    assert load({}, {"XDG_STATE_HOME": "/s"}, root=False).state_directory == Path("/s/xchronos")
    relative = {"XDG_STATE_HOME": "s", **HOME}
    assert load({}, relative, root=False).state_directory == Path("/home/anna/.local/state/xchronos")
    with pytest.raises(ConfigError, match="there is no HOME to keep the state in: give --state-directory"):
        load({}, {}, root=False)
    assert load({"state_directory": "/x"}, {}, root=False).state_directory == Path("/x")
    assert load({}, HOME).state_directory.is_absolute()


ALL = """
units = ["/etc/xchronos/units", "/usr/lib/xchronos/units", "/etc/xchronos/units"]
state_directory = "/srv/x"
store = "sqlite:/srv/x.db"
namespace = "team-a"
machine_id = "m1"
roles = ["intake", "agent"]
allow_process = true
read_paths = ["/etc/x", "/srv/x"]
slots = 4
memory = "8G"
cpus = 1.5
heartbeat_ttl = "3s"
shutdown_grace = 0
settle = "50ms"

[metadata]
region = "us-east-1"
disks = 2
ssd = true
off = false

[api]
listen = "0.0.0.0:80"
token = "secret"
token_file = "/etc/xchronos/api-token"
insecure = true
connections = 100
hosts = ["jobs.example.org"]

[docker]
host = "tcp://10.0.0.1:2375"

[log]
limit = "1 MiB"
format = "json"
level = "debug"

[sqlite]
synchronous = "normal"

[etcd]
user = "xchronos"
password = "secret too"
password_file = "/etc/xchronos/password"
ca = "/etc/xchronos/ca.pem"
cert = "/etc/xchronos/cert.pem"
key = "/etc/xchronos/key.pem"
server_name = "etcd.example.org"
timeout = "2s"
max_operations = 512
history = "1h"

[consul]
prefix = "batch/xchronos"
token = "secret as well"
token_file = "/etc/xchronos/token"
ca = "/etc/xchronos/ca.pem"
cert = "/etc/xchronos/cert.pem"
key = "/etc/xchronos/key.pem"
timeout = "3s"
"""


def test_everything_in_a_file(tmp_path):
    assert settings(files=[toml(tmp_path, ALL)]) == Settings(
        units=(Path("/etc/xchronos/units"), Path("/usr/lib/xchronos/units")),
        state_directory=Path("/srv/x"),
        store="sqlite:/srv/x.db",
        sqlite_synchronous="normal",
        etcd_user="xchronos",
        etcd_password="secret too",
        etcd_password_file=Path("/etc/xchronos/password"),
        etcd_ca=Path("/etc/xchronos/ca.pem"),
        etcd_cert=Path("/etc/xchronos/cert.pem"),
        etcd_key=Path("/etc/xchronos/key.pem"),
        etcd_server_name="etcd.example.org",
        etcd_timeout=2 * SECOND,
        etcd_max_operations=512,
        etcd_history=3600 * SECOND,
        consul_prefix="batch/xchronos",
        consul_token="secret as well",
        consul_token_file=Path("/etc/xchronos/token"),
        consul_ca=Path("/etc/xchronos/ca.pem"),
        consul_cert=Path("/etc/xchronos/cert.pem"),
        consul_key=Path("/etc/xchronos/key.pem"),
        consul_timeout=3 * SECOND,
        namespace="team-a",
        machine_id="m1",
        metadata={"region": "us-east-1", "disks": "2", "ssd": "true", "off": "false"},
        roles=("agent", "intake"),
        api_listen="0.0.0.0:80",
        api_token="secret",
        api_token_file=Path("/etc/xchronos/api-token"),
        api_insecure=True,
        api_connections=100,
        api_hosts=("jobs.example.org",),
        docker_host="tcp://10.0.0.1:2375",
        allow_process=True,
        read_paths=(Path("/etc/x"), Path("/srv/x")),
        slots=4,
        memory=8 * 1024**3,
        cpus=1.5,
        heartbeat_ttl=3 * SECOND,
        shutdown_grace=0,
        settle=50 * MILLISECOND,
        log_limit=1024 * 1024,
        log_format="json",
        log_level="debug",
    )


def test_everything_in_the_environment_and_on_the_command_line(tmp_path):
    from_file = settings(files=[toml(tmp_path, ALL)])
    texts = {
        "units": "/etc/xchronos/units:/usr/lib/xchronos/units",
        "state_directory": "/srv/x",
        "store": "sqlite:/srv/x.db",
        "sqlite_synchronous": "NORMAL",
        "etcd_user": "xchronos",
        "etcd_password": "secret too",
        "etcd_password_file": "/etc/xchronos/password",
        "etcd_ca": "/etc/xchronos/ca.pem",
        "etcd_cert": "/etc/xchronos/cert.pem",
        "etcd_key": "/etc/xchronos/key.pem",
        "etcd_server_name": "etcd.example.org",
        "etcd_timeout": "2000ms",
        "etcd_max_operations": "512",
        "etcd_history": "60min",
        "consul_prefix": "batch/xchronos",
        "consul_token": "secret as well",
        "consul_token_file": "/etc/xchronos/token",
        "consul_ca": "/etc/xchronos/ca.pem",
        "consul_cert": "/etc/xchronos/cert.pem",
        "consul_key": "/etc/xchronos/key.pem",
        "consul_timeout": "3000ms",
        "namespace": "team-a",
        "machine_id": "m1",
        "metadata": "region=us-east-1, disks=2,ssd=true,off=false",
        "roles": "intake,agent",
        "api_listen": "0.0.0.0:80",
        "api_token": "secret",
        "api_token_file": "/etc/xchronos/api-token",
        "api_insecure": "on",
        "api_connections": "100",
        "api_hosts": "jobs.example.org",
        "docker_host": "tcp://10.0.0.1:2375",
        "allow_process": "yes",
        "read_paths": "/etc/x:/srv/x",
        "slots": "4",
        "memory": "8GiB",
        "cpus": "1.5",
        "heartbeat_ttl": "3",
        "shutdown_grace": "0",
        "settle": "50ms",
        "log_limit": "1048576",
        "log_format": "json",
        "log_level": "Debug",
    }
    assert set(texts) == set(SETTINGS) == set(Settings.__struct_fields__)
    assert settings(environ={f"XCHRONOS_{name.upper()}": text for name, text in texts.items()}) == from_file
    assert settings(flags=texts) == from_file


def test_what_is_further_up_counts_and_replaces_the_whole(tmp_path):
    first = toml(tmp_path, "slots = 1\ncpus = 1\nmemory = 1\nnamespace = 'a'\n[metadata]\na = '1'\nb = '1'")
    second = tmp_path / "second.toml"
    second.write_text("cpus = 2\nmemory = 2\nnamespace = 'b'")
    got = settings(
        {"namespace": "d", "metadata": ("c=3,d=4", "e=5"), "slots": None, "units": ()},
        {"XCHRONOS_MEMORY": "3", "XCHRONOS_NAMESPACE": "c", "XCHRONOS_SLOTS": ""},
        [first, second],
    )
    assert (got.slots, got.cpus, got.memory, got.namespace) == (1, 2.0, 3, "d")
    assert got.metadata == {"c": "3", "d": "4", "e": "5"}
    assert got.units == ()


def test_relative_paths_count_from_here():
    assert settings({"units": ("units", Path("more"))}).units == (Path.cwd() / "units", Path.cwd() / "more")
    assert settings({"state_directory": Path("state")}).state_directory == Path.cwd() / "state"


def test_which_file(tmp_path, monkeypatch):
    own = tmp_path / "xchronos/xchronosd.toml"
    environ = {"XDG_CONFIG_HOME": str(tmp_path)}
    assert config_files(None, environ, root=False) == []
    own.parent.mkdir()
    own.write_text("")
    assert config_files(None, environ, root=False) == [own]
    assert config_files(None, {**environ, "XCHRONOS_CONFIG": "/a.toml"}, root=False) == [Path("/a.toml")]
    assert config_files(Path("/b.toml"), {"XCHRONOS_CONFIG": "/a.toml"}, root=True) == [Path("/b.toml")]
    assert config_files(None, {}, root=False) == []
    monkeypatch.setattr(Path, "exists", lambda path: str(path) == "/etc/xchronos/xchronosd.toml")
    assert config_files(None, environ, root=True) == [Path("/etc/xchronos/xchronosd.toml")]
    assert config_files(None, {**HOME}, root=False) == []
    monkeypatch.setattr("os.geteuid", lambda: 0)
    assert config_files(None, environ) == [Path("/etc/xchronos/xchronosd.toml")]


def test_misspelt_variables():
    environ = {
        "XCHRONOS_SLOT": "3",
        "XCHRONOS_SLOTS": "3",
        "XCHRONOS_MACHINE": "m1",
        "XCHRONOS_UNIT": "a.service",
        "XCHRONOS_SOMETHING_ELSE": "1",
        "SLOT": "1",
    }
    assert misspelt_variables(environ) == ["XCHRONOS_SLOT is no setting, did you mean XCHRONOS_SLOTS?"]
