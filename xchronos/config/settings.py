"""What a daemon can be told: every setting with its default, its spellings and its meaning."""

from collections.abc import Callable
from pathlib import Path
from typing import Any, Literal

import msgspec

from xchronos.clock import MILLISECOND, SECOND, Micros
from xchronos.config import values
from xchronos.config.values import ROLES, Role
from xchronos.executors.contract import LOG_LIMIT
from xchronos.limits import CONNECTIONS
from xchronos.store.contract import MAX_OPERATIONS
from xchronos.unitfile.timespan import format_timespan
from xchronos.urls import shown

PREFIX = "XCHRONOS_"
"""The beginning of every setting's environment variable."""

MEBIBYTE = 1024 * 1024

HEARTBEAT_TTL: Micros = 10 * SECOND
"""How long a silent machine or scheduler counts as alive unless told otherwise, in microseconds."""


class Settings(msgspec.Struct, frozen=True, kw_only=True):
    """Everything that a daemon is told. A daemon may be given others while it runs (`daemon.reload`).

    Lengths of time are in microseconds, sizes in bytes. SETTINGS has the meaning of each field.
    """

    units: tuple[Path, ...] = ()
    state_directory: Path
    store: str = "sqlite:"
    sqlite_synchronous: Literal["full", "normal"] = "full"
    etcd_user: str = ""
    etcd_password: str = ""
    etcd_password_file: Path | None = None
    etcd_ca: Path | None = None
    etcd_cert: Path | None = None
    etcd_key: Path | None = None
    etcd_server_name: str = ""
    etcd_timeout: Micros = 5 * SECOND
    etcd_max_operations: int = MAX_OPERATIONS
    etcd_history: Micros = 600 * SECOND
    consul_prefix: str = "xchronos"
    consul_token: str = ""
    consul_token_file: Path | None = None
    consul_ca: Path | None = None
    consul_cert: Path | None = None
    consul_key: Path | None = None
    consul_timeout: Micros = 5 * SECOND
    namespace: str = ""
    machine_id: str = ""
    metadata: dict[str, str] = {}
    roles: tuple[Role, ...] = ROLES
    api_listen: str = "127.0.0.1:7480"
    api_token: str = ""
    api_token_file: Path | None = None
    api_insecure: bool = False
    api_connections: int = CONNECTIONS
    api_hosts: tuple[str, ...] = ()
    docker_host: str = ""
    allow_process: bool = False
    read_paths: tuple[Path, ...] = ()
    slots: int = 0
    memory: int = 0
    cpus: float = 0.0
    heartbeat_ttl: Micros = HEARTBEAT_TTL
    shutdown_grace: Micros = 10 * SECOND
    settle: Micros = 200 * MILLISECOND
    log_limit: int = LOG_LIMIT
    log_format: Literal["console", "json"] = "console"
    log_level: Literal["debug", "info", "warning", "error", "critical"] = "info"

    def __repr__(self) -> str:
        # Settings are written to logs and error reports, and secrets must not be (`test_secrets_are_not_shown` in
        # tests/config/test_config_values.py).
        told = (
            (name, "(hidden)" if setting.secret and getattr(self, name) else getattr(self, name))
            for name, setting in SETTINGS.items()
        )
        return shown(f"Settings({', '.join(f'{name}={value!r}' for name, value in told)})")


class Setting(msgspec.Struct, frozen=True):
    """How one setting is read, and what it means."""

    read: Callable[[object], Any]
    """Makes the field's value of what was given: text, or what TOML made of it. Raises InvalidValue."""

    meaning: str
    """What the setting means, for people."""

    table: str = ""
    """The table of the file that has it; empty: it is at the top."""

    secret: bool = False
    """Whether its value is never shown."""


class SettingRow(msgspec.Struct, frozen=True):
    """One setting as people read about it."""

    name: str
    """Its name in the file: `api.listen`."""

    default: str
    """Its default, as a person writes it; empty: there is none."""

    variable: str
    """Its environment variable."""

    flag: str
    """Its option of the command line."""

    meaning: str
    """What it means."""


SETTINGS: dict[str, Setting] = {
    "units": Setting(
        values.read_paths, "directories whose unit files are in force, separated by ':'; what comes first counts first"
    ),
    "state_directory": Setting(values.read_path, "where this machine keeps its store, its logs and its identity"),
    "store": Setting(
        values.read_store,
        "the job store: 'sqlite:' (a file in the state directory), 'sqlite:/a/file', 'memory:', or for a cluster "
        "'etcd://host:2379,host:2379' or 'consul://host:8500,host:8500' ('etcds://' and 'consuls://' with TLS)",
    ),
    "sqlite_synchronous": Setting(
        values.read_choice("full", "normal"),
        "'full' survives a power cut; 'normal' is quicker and may lose the last moments",
        "sqlite",
    ),
    "etcd_user": Setting(values.read_text, "the etcd user, where etcd asks for one; empty: none", "etcd"),
    "etcd_password": Setting(
        values.read_text, "that user's password; better kept in a file of its own", "etcd", secret=True
    ),
    "etcd_password_file": Setting(values.read_file, "a file that holds that user's password and nothing else", "etcd"),
    "etcd_ca": Setting(
        values.read_file, "with etcds://: the PEM file of the authorities to trust; empty: the system's", "etcd"
    ),
    "etcd_cert": Setting(
        values.read_file, "with etcds://: our certificate (PEM), where etcd asks for one; it needs the key", "etcd"
    ),
    "etcd_key": Setting(values.read_file, "the private key (PEM) of that certificate", "etcd"),
    "etcd_server_name": Setting(
        values.read_text, "with etcds://: the name in etcd's certificates; empty: the endpoints' hosts", "etcd"
    ),
    "etcd_timeout": Setting(
        values.read_positive, "how long a request to etcd may take, tries on other members included", "etcd"
    ),
    "etcd_max_operations": Setting(
        values.read_operations, "the operations in one transaction that etcd takes: its --max-txn-ops", "etcd"
    ),
    "etcd_history": Setting(
        values.read_length,
        "how much of its past etcd keeps before the leading scheduler compacts it; 0: etcd is left to compact itself",
        "etcd",
    ),
    "consul_prefix": Setting(values.read_text, "what the names of all our keys in Consul begin with", "consul"),
    "consul_token": Setting(
        values.read_text,
        "the token for Consul, which must be allowed to write that prefix; better kept in a file of its own",
        "consul",
        secret=True,
    ),
    "consul_token_file": Setting(values.read_file, "a file that holds that token and nothing else", "consul"),
    "consul_ca": Setting(
        values.read_file, "with consuls://: the PEM file of the authorities to trust; empty: the system's", "consul"
    ),
    "consul_cert": Setting(
        values.read_file,
        "with consuls://: our certificate (PEM), where Consul asks for one; it needs the key",
        "consul",
    ),
    "consul_key": Setting(values.read_file, "the private key (PEM) of that certificate", "consul"),
    "consul_timeout": Setting(
        values.read_positive, "how long a request to Consul may take, tries with other agents included", "consul"
    ),
    "namespace": Setting(values.read_namespace, "the tenant whose units this is about; empty: the default one"),
    "machine_id": Setting(
        values.read_machine, "what this machine is called in the cluster; empty: /etc/machine-id, or drawn once"
    ),
    "metadata": Setting(
        values.read_metadata, "what units may ask of this machine: region=us-east-1,diskType=SSD, or a table"
    ),
    "roles": Setting(values.read_roles, "what this daemon does: some of scheduler, agent, api, intake"),
    "api_listen": Setting(
        values.read_address, "where the API listens: host:port, ':7480' for every address, or unix:///a/path", "api"
    ),
    "api_token": Setting(
        values.read_text,
        "what callers of the API must present; empty: nothing; better kept in a file of its own",
        "api",
        secret=True,
    ),
    "api_token_file": Setting(values.read_file, "a file that holds that token and nothing else", "api"),
    "api_insecure": Setting(
        values.read_switch,
        "whether the API may do without a token where other machines reach it: something else keeps strangers away",
        "api",
    ),
    "api_connections": Setting(
        values.read_whole, "the most connections of the API; they are fewer where few files may be open", "api"
    ),
    "api_hosts": Setting(
        values.read_names, "names by which the API may be called besides its address, separated by ','", "api"
    ),
    "docker_host": Setting(
        values.read_text, "the Docker engine, unix:// or tcp://; empty: DOCKER_HOST, or the usual socket", "docker"
    ),
    "allow_process": Setting(values.read_switch, "whether units may run processes on this host, outside of containers"),
    "read_paths": Setting(
        values.read_roots,
        "the directories of this host, separated by ':', whose files units may have the daemon read; '*': all; "
        "empty: /etc/xchronos and the unit directories",
    ),
    "slots": Setting(values.read_whole, "how many attempts run here at a time; 0: no limit"),
    "memory": Setting(values.read_size, "how many bytes units may ask for here, like 8G; 0: what the machine has"),
    "cpus": Setting(values.read_cpus, "how many CPUs units may ask for here; 0: what the machine has"),
    "heartbeat_ttl": Setting(values.read_positive, "how long a silent machine or scheduler counts as alive"),
    "shutdown_grace": Setting(values.read_length, "how long what runs may go on when the daemon is asked to end"),
    "settle": Setting(values.read_length, "how long a unit file must be left alone before it is read"),
    "log_limit": Setting(values.read_size, "how many bytes of output are kept of each step", "log"),
    "log_format": Setting(values.read_choice("console", "json"), "how the daemon logs: console or json", "log"),
    "log_level": Setting(
        values.read_choice("debug", "info", "warning", "error", "critical"),
        "the least that the daemon logs: debug, info, warning, error or critical",
        "log",
    ),
}
"""The settings, by the name of the field in Settings and in the order of the documentation."""

TABLES = tuple(dict.fromkeys(setting.table for setting in SETTINGS.values() if setting.table))
"""The tables of the file."""


def variable_of(name: str) -> str:
    """The environment variable of a setting."""
    return PREFIX + name.upper()


def flag_of(name: str) -> str:
    """The option of a setting on the command line."""
    return "--" + name.replace("_", "-")


def file_name(name: str) -> str:
    """The name of a setting in the file: `api.listen` is `listen` in the table `[api]`."""
    table = SETTINGS[name].table
    return f"{table}.{name.removeprefix(f'{table}_')}" if table else name


def describe_settings() -> list[SettingRow]:
    """Every setting, in the order of the documentation."""
    defaults = Settings(state_directory=Path())
    return [
        SettingRow(
            file_name(name), _shown(name, getattr(defaults, name)), variable_of(name), flag_of(name), setting.meaning
        )
        for name, setting in SETTINGS.items()
    ]


def _shown(name: str, value: object) -> str:
    if name == "state_directory":
        return "/var/lib/xchronos, or ~/.local/state/xchronos"
    if name in ("heartbeat_ttl", "shutdown_grace", "settle", "etcd_timeout", "etcd_history", "consul_timeout"):
        return format_timespan(int(str(value)))
    if name == "log_limit":
        return f"{int(str(value)) // MEBIBYTE}M"
    if isinstance(value, tuple):
        return ",".join(str(part) for part in value)
    if isinstance(value, bool):
        return str(value).lower()
    if isinstance(value, float):
        return f"{value:g}"
    return "" if value in ({}, None) else str(value)
