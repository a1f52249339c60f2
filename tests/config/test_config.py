"""Where settings come from, what counts, and what is said about those that are wrong."""

from pathlib import Path

import msgspec
import pytest

from xchronos.clock import MILLISECOND, SECOND
from xchronos.config import ROLES, Settings, config_files, describe_settings, load, misspelt_variables
from xchronos.config.settings import SETTINGS
from xchronos.errors import ConfigError

HOME = {"HOME": "/home/anna"}


def settings(flags=None, environ=None, files=()):
    return load(flags or {}, {**HOME, **(environ or {})}, files, root=False)


def wrong(flags=None, environ=None, files=()) -> list[str]:
    with pytest.raises(ConfigError) as caught:
        settings(flags, environ, files)
    return str(caught.value).splitlines()


def toml(tmp_path: Path, text: str | bytes) -> Path:
    file = tmp_path / "xchronosd.toml"
    file.write_bytes(text if isinstance(text, bytes) else text.encode())
    return file


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
        api_hosts=("jobs.example.org",),
        docker_host="tcp://10.0.0.1:2375",
        allow_process=True,
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
        "api_hosts": "jobs.example.org",
        "docker_host": "tcp://10.0.0.1:2375",
        "allow_process": "yes",
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


def test_an_error_names_the_setting_and_where_it_was_given(tmp_path):
    file = toml(tmp_path, "[api]\nlisten = 'nowhere'\n")
    forms = "host:port, like 127.0.0.1:7480, [::1]:7480 or :7480 (every address), or unix:///a/path"
    assert wrong({"slots": "many"}, {"XCHRONOS_CPUS": "-1"}, [file]) == [
        f"{file}: api.listen: 'nowhere': expected {forms}",
        "XCHRONOS_CPUS: '-1': expected a number, 0 or more, like 2 or 0.5",
        "--slots: 'many': expected a whole number, 0 or more",
    ]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("solts = 1", "solts: no such setting, did you mean slots?"),
        ("api_listen = ':1'", "api_listen: no such setting, did you mean api.listen?"),
        ("[api]\nlisen = ':1'", "api.lisen: no such setting, did you mean api.listen?"),
        ("[apj]\nlisten = ':1'", "apj: no such setting"),
        ("api = 3", "api: 3: expected a table, [api]"),
        ("frobnicate = 3", "frobnicate: no such setting"),
        ("slots = ", "Invalid value (at end of document)"),
        (b"store = '\xff'", "'utf-8' codec can't decode byte 0xff in position 9: invalid start byte"),
    ],
)
def test_what_is_wrong_with_a_file(tmp_path, text, message):
    file = toml(tmp_path, text)
    (line,) = wrong(files=[file])
    assert line.startswith(f"{file}: {message}")


def test_a_file_that_cannot_be_read(tmp_path):
    assert wrong(files=[tmp_path / "none.toml"]) == [f"{tmp_path}/none.toml: cannot be read: No such file or directory"]


def test_an_unknown_flag():
    assert wrong({"slot": "1"}) == ["--slot: no such setting, did you mean slots?"]


@pytest.mark.parametrize(
    ("name", "bad"),
    [
        ("units", 3), ("units", "\0"), ("state_directory", ""), ("state_directory", 3), ("units", [3]),
        ("store", "sqlite"), ("store", "postgres://x"), ("store", "memory:x"), ("store", "sqlite://host/x"),
        ("store", "sqlite://"), ("store", ""), ("namespace", "a/b"), ("namespace", "-a"), ("machine_id", "a/b"),
        ("machine_id", "a" * 129), ("metadata", "region"), ("metadata", "=x"), ("metadata", "x="), ("metadata", 3),
        ("metadata", {"a": []}), ("metadata", {"a=b": "c"}), ("roles", ","), ("roles", "agents"), ("roles", 3),
        ("allow_process", "maybe"), ("allow_process", 1), ("slots", -1), ("slots", "1.5"), ("slots", 1.5),
        ("slots", True), ("slots", "9" * 19), ("slots", "\u0663"), ("memory", "-1"), ("memory", "8X"), ("memory", "8g"),
        ("memory", "9" * 19), ("memory", "1e3"), ("cpus", "nan"), ("cpus", float("inf")), ("cpus", ""),
        ("heartbeat_ttl", "0"), ("heartbeat_ttl", "infinity"), ("heartbeat_ttl", "-1"), ("heartbeat_ttl", "soon"),
        ("shutdown_grace", "infinity"), ("settle", False), ("api_listen", "80"), ("api_listen", "a:65536"),
        ("api_listen", "a:b"), ("api_listen", "::1:80"), ("api_listen", "http://a:80"), ("api_listen", "unix:x"),
        ("api_listen", ""), ("api_token", 3), ("log_format", "xml"), ("log_level", "loud"), ("log_level", 3),
        ("sqlite_synchronous", "off"),
        ("store", "etcd:"), ("store", "etcd://"), ("store", "etcd:a"), ("store", "etcd://,"), ("store", "etcd://a:0"),
        ("store", "etcd://http://a:1"), ("store", "etcd://a:65536"), ("store", "etcd://a/b"), ("store", "etcd://u:p@a"),
        ("store", "consul:"), ("store", "consul://a:0"), ("store", "consuls://u:p@a"), ("consul_timeout", "0"),
        ("etcd_timeout", "0"), ("etcd_max_operations", "63"), ("etcd_max_operations", "100001"), ("etcd_ca", 3),
    ],
)  # fmt: skip
def test_values_that_are_refused(name, bad):
    (line,) = wrong({name: bad})
    assert line.startswith(f"--{name.replace('_', '-')}: ")
    assert len(line) > len(name) + 10


@pytest.mark.parametrize(
    ("name", "given", "expected"),
    [
        ("api_listen", ":7480", "0.0.0.0:7480"),
        ("api_listen", "[::1]:0", "[::1]:0"),
        ("api_listen", "jobs.example.org:00080", "jobs.example.org:80"),
        ("api_listen", "unix:///run/x.sock", "unix:///run/x.sock"),
        ("store", "memory:", "memory:"),
        ("store", "sqlite:///srv/x.db", "sqlite:///srv/x.db"),
        ("store", "etcd://a", "etcd://a:2379"),
        ("store", "etcds://a:1,[::1],b.example.org/", "etcds://a:1,[::1]:2379,b.example.org:2379"),
        ("store", "consul://a,b:1/", "consul://a:8500,b:1"),
        ("store", "consuls://a", "consuls://a:8501"),
        ("etcd_ca", "", None),
        ("etcd_history", 0, 0),
        ("memory", 0, 0),
        ("memory", "1.5K", 1536),
        ("memory", "9007199254740993", 9007199254740993),
        ("memory", "12B", 12),
        ("cpus", 2, 2.0),
        ("heartbeat_ttl", 0.5, SECOND // 2),
        ("heartbeat_ttl", "1min 5s", 65 * SECOND),
        ("allow_process", "OFF", False),
        ("roles", ROLES, ROLES),
        ("machine_id", " 9f0c ", "9f0c"),
        ("metadata", "a=b=c", {"a": "b=c"}),
        ("units", ["/a b:c"], (Path("/a b:c"),)),
    ],
)
def test_values_that_are_taken(name, given, expected):
    assert getattr(settings({name: given}), name) == expected


def test_a_misspelt_role_is_recognised():
    assert wrong({"roles": "agents"}) == [
        "--roles: 'agents' is no role, did you mean agent?: expected some of scheduler, agent, api, intake"
    ]


def test_secrets_are_not_shown():
    given = settings({"api_token": "secret", "etcd_password": "secret", "consul_token": "secret", "slots": "3"})
    told = repr(given) + str(given)
    assert "secret" not in told
    assert "api_token='(hidden)'" in told
    assert "etcd_password='(hidden)'" in told
    assert "slots=3" in told
    assert "api_token=''" in repr(settings())
    (line,) = wrong({"store": "etcd://root:secret@a:2379"})
    assert "secret" not in line


def test_settings_cannot_be_changed():
    with pytest.raises(AttributeError):
        settings().slots = 3
    assert msgspec.structs.replace(settings(), slots=3).slots == 3


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


def test_the_table_of_settings_is_what_people_rely_on():
    rows = describe_settings()
    assert [(row.name, row.default, row.variable, row.flag) for row in rows] == [
        ("units", "", "XCHRONOS_UNITS", "--units"),
        (
            "state_directory",
            "/var/lib/xchronos, or ~/.local/state/xchronos",
            "XCHRONOS_STATE_DIRECTORY",
            "--state-directory",
        ),
        ("store", "sqlite:", "XCHRONOS_STORE", "--store"),
        ("sqlite.synchronous", "full", "XCHRONOS_SQLITE_SYNCHRONOUS", "--sqlite-synchronous"),
        ("etcd.user", "", "XCHRONOS_ETCD_USER", "--etcd-user"),
        ("etcd.password", "", "XCHRONOS_ETCD_PASSWORD", "--etcd-password"),
        ("etcd.password_file", "", "XCHRONOS_ETCD_PASSWORD_FILE", "--etcd-password-file"),
        ("etcd.ca", "", "XCHRONOS_ETCD_CA", "--etcd-ca"),
        ("etcd.cert", "", "XCHRONOS_ETCD_CERT", "--etcd-cert"),
        ("etcd.key", "", "XCHRONOS_ETCD_KEY", "--etcd-key"),
        ("etcd.server_name", "", "XCHRONOS_ETCD_SERVER_NAME", "--etcd-server-name"),
        ("etcd.timeout", "5s", "XCHRONOS_ETCD_TIMEOUT", "--etcd-timeout"),
        ("etcd.max_operations", "128", "XCHRONOS_ETCD_MAX_OPERATIONS", "--etcd-max-operations"),
        ("etcd.history", "10min", "XCHRONOS_ETCD_HISTORY", "--etcd-history"),
        ("consul.prefix", "xchronos", "XCHRONOS_CONSUL_PREFIX", "--consul-prefix"),
        ("consul.token", "", "XCHRONOS_CONSUL_TOKEN", "--consul-token"),
        ("consul.token_file", "", "XCHRONOS_CONSUL_TOKEN_FILE", "--consul-token-file"),
        ("consul.ca", "", "XCHRONOS_CONSUL_CA", "--consul-ca"),
        ("consul.cert", "", "XCHRONOS_CONSUL_CERT", "--consul-cert"),
        ("consul.key", "", "XCHRONOS_CONSUL_KEY", "--consul-key"),
        ("consul.timeout", "5s", "XCHRONOS_CONSUL_TIMEOUT", "--consul-timeout"),
        ("namespace", "", "XCHRONOS_NAMESPACE", "--namespace"),
        ("machine_id", "", "XCHRONOS_MACHINE_ID", "--machine-id"),
        ("metadata", "", "XCHRONOS_METADATA", "--metadata"),
        ("roles", "scheduler,agent,api,intake", "XCHRONOS_ROLES", "--roles"),
        ("api.listen", "127.0.0.1:7480", "XCHRONOS_API_LISTEN", "--api-listen"),
        ("api.token", "", "XCHRONOS_API_TOKEN", "--api-token"),
        ("api.hosts", "", "XCHRONOS_API_HOSTS", "--api-hosts"),
        ("docker.host", "", "XCHRONOS_DOCKER_HOST", "--docker-host"),
        ("allow_process", "false", "XCHRONOS_ALLOW_PROCESS", "--allow-process"),
        ("slots", "0", "XCHRONOS_SLOTS", "--slots"),
        ("memory", "0", "XCHRONOS_MEMORY", "--memory"),
        ("cpus", "0", "XCHRONOS_CPUS", "--cpus"),
        ("heartbeat_ttl", "10s", "XCHRONOS_HEARTBEAT_TTL", "--heartbeat-ttl"),
        ("shutdown_grace", "10s", "XCHRONOS_SHUTDOWN_GRACE", "--shutdown-grace"),
        ("settle", "200ms", "XCHRONOS_SETTLE", "--settle"),
        ("log.limit", "10M", "XCHRONOS_LOG_LIMIT", "--log-limit"),
        ("log.format", "console", "XCHRONOS_LOG_FORMAT", "--log-format"),
        ("log.level", "info", "XCHRONOS_LOG_LEVEL", "--log-level"),
    ]
    assert all(len(row.meaning) > 20 for row in rows)
    assert list(SETTINGS) == [row.name.replace(".", "_") for row in rows]
