"""What settings may be, and what is said of those that are wrong."""

from pathlib import Path

import msgspec
import pytest

from tests.config.config_helpers import settings, toml, wrong
from xchronos.clock import SECOND
from xchronos.config import ROLES, describe_settings
from xchronos.config.settings import SETTINGS


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
        ("metadata", {"a": []}), ("metadata", {"a": "x" * 1025}), ("metadata", {"k" * 256: "x"}),
        ("metadata", {str(n): "x" for n in range(65)}), ("metadata", "a=\udcff"), ("metadata", "a=b\nc"), ("metadata", "a!=b"),
         ("metadata", {"a=b": "c"}), ("roles", ","), ("roles", "agents"), ("roles", 3),
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
        ("read_paths", "*", (Path("/"),)),
        ("read_paths", ["*"], (Path("/"),)),
        ("read_paths", "/a:/b", (Path("/a"), Path("/b"))),
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
        ("api.token_file", "", "XCHRONOS_API_TOKEN_FILE", "--api-token-file"),
        ("api.insecure", "false", "XCHRONOS_API_INSECURE", "--api-insecure"),
        ("api.connections", "512", "XCHRONOS_API_CONNECTIONS", "--api-connections"),
        ("api.hosts", "", "XCHRONOS_API_HOSTS", "--api-hosts"),
        ("docker.host", "", "XCHRONOS_DOCKER_HOST", "--docker-host"),
        ("allow_process", "false", "XCHRONOS_ALLOW_PROCESS", "--allow-process"),
        ("read_paths", "", "XCHRONOS_READ_PATHS", "--read-paths"),
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
