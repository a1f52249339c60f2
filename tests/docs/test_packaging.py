"""The container image, the compose file and the systemd unit say what is so: files, settings, names, times."""

import http.server
import json
import re
import shlex
import shutil
import subprocess
import sys
import threading
import tomllib

import pytest
import yaml

from tests.docs.generated import ROOT
from xchronos.api.routes.cluster import healthz
from xchronos.config import describe_settings, load
from xchronos.unitfile.timespan import parse_timespan

DOCKERFILE = (ROOT / "packaging/Dockerfile").read_text(encoding="utf-8")
COMPOSE = yaml.safe_load((ROOT / "packaging/compose.yaml").read_text(encoding="utf-8"))
SERVICE = (ROOT / "packaging/xchronosd.service").read_text(encoding="utf-8")
ETCDS, DAEMONS, GUARDIANS = ("e1", "e2", "e3"), ("m1", "m2", "m3"), ("g1", "g2", "g3")
VARIABLES = {row.variable for row in describe_settings()}
PORT = next(row.default for row in describe_settings() if row.name == "api.listen").rpartition(":")[2]


def instructions() -> list[tuple[str, str]]:
    """The Dockerfile's, with continued lines joined."""
    lines = re.sub(r"\\\n\s*", "", DOCKERFILE).splitlines()
    return [(word, rest) for word, _, rest in (line.partition(" ") for line in lines) if word and word[0] != "#"]


def values(word: str) -> list[str]:
    return [rest for name, rest in instructions() if name == word]


def test_the_image_is_built_from_files_that_are_there_and_not_ignored():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    copied = {source for rest in values("COPY") if "--from" not in rest for source in shlex.split(rest)[:-1]}
    needed = {"pyproject.toml", project["project"]["readme"], "LICENSE"}
    needed |= set(project["tool"]["hatch"]["build"]["targets"]["wheel"]["packages"])
    assert copied == needed
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    for name in copied:
        assert (ROOT / name).exists(), name


def test_the_image_runs_the_daemon():
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (entry,) = (json.loads(rest) for rest in values("ENTRYPOINT"))
    assert entry[0] in project["project"]["scripts"]
    # Its unit directory is there: a missing one would be told as a fault.
    assert [f"mkdir -p {directory}" for directory in json.loads(values("CMD")[0])] == values("RUN")[1:]
    assert values("EXPOSE") == [PORT]
    assert f"XCHRONOS_API_LISTEN=:{PORT}" in values("ENV")
    for setting in values("ENV"):
        name, _, _ = setting.partition("=")
        assert name == "PATH" or name in VARIABLES
    (base,) = (rest.removeprefix("PYTHON=") for rest in values("ARG") if rest.startswith("PYTHON="))
    wanted = project["project"]["requires-python"].removeprefix(">=")
    assert base >= f"python:{wanted}"
    assert {rest.split()[0] for rest in values("FROM")} == {"${PYTHON}"}


@pytest.mark.parametrize("listen", [":{}", "127.0.0.1:{}", "0.0.0.0:{}"])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_image_asks_the_daemon_how_it_is(listen, status, code):
    (probe,) = values("HEALTHCHECK")
    command = json.loads(probe.partition("CMD ")[2])
    asked = []

    class Daemon(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Host"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b"the reason")

        def log_message(self, *_):
            pass

    with http.server.HTTPServer(("127.0.0.1", 0), Daemon) as daemon:
        thread = threading.Thread(target=daemon.handle_request)
        thread.start()
        environment = {"XCHRONOS_API_LISTEN": listen.format(daemon.server_port)}
        done = subprocess.run(
            [sys.executable, *command[1:]], env=environment, capture_output=True, text=True, check=False
        )
        thread.join()
    assert (done.returncode, done.stdout, done.stderr) == (code, "the reason\n", "")
    assert asked == [(next(iter(healthz.paths)), "localhost")]


def test_every_service_is_one_of_nine():
    assert tuple(COMPOSE["services"]) == ETCDS + DAEMONS + GUARDIANS


@pytest.mark.parametrize(("name", "daemon"), list(zip(GUARDIANS, DAEMONS, strict=True)))
def test_every_daemon_has_a_guardian_outside_of_its_container(name, daemon):
    service, guarded = COMPOSE["services"][name], COMPOSE["services"][daemon]
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    assert service["entrypoint"][0] in project["project"]["scripts"]
    assert service["command"] == [], "the image's would be taken for a state directory"
    assert service["image"] == guarded["image"]
    assert service["volumes"] == guarded["volumes"]
    assert service["environment"]["XCHRONOS_STATE_DIRECTORY"] == guarded["environment"]["XCHRONOS_STATE_DIRECTORY"]
    assert service["healthcheck"]["test"] == ["CMD", "true"], "the image's asks an API"


@pytest.mark.parametrize("name", DAEMONS)
def test_a_daemon_is_set_up_with_settings_that_there_are(name):
    service = COMPOSE["services"][name]
    environment = service["environment"]
    assert set(environment) <= VARIABLES
    settings = load({}, environment | {"XCHRONOS_API_LISTEN": f":{PORT}"})
    assert settings.machine_id == name == service["hostname"]
    assert set(settings.roles) == {"scheduler", "agent", "api"}
    # The token has no default that everybody knows.
    assert environment["XCHRONOS_API_TOKEN"].startswith("${XCHRONOS_TOKEN:?")
    kind, _, endpoints = environment["XCHRONOS_STORE"].partition("://")
    assert kind == "etcd"
    for endpoint in endpoints.split(","):
        host, _, port = endpoint.partition(":")
        assert COMPOSE["services"][host]["environment"]["ETCD_ADVERTISE_CLIENT_URLS"] == f"http://{host}:{port}"
    assert set(service["depends_on"]) == set(ETCDS)
    # What the engine mounts, it mounts by the host's path: that must be the path inside, too.
    state = environment["XCHRONOS_STATE_DIRECTORY"]
    assert f"{state}:{state}" in service["volumes"]
    assert "/var/run/docker.sock:/var/run/docker.sock" in service["volumes"]


def test_daemons_differ_where_they_must():
    daemons = [COMPOSE["services"][name] for name in DAEMONS]
    for what in ("XCHRONOS_STATE_DIRECTORY", "XCHRONOS_MACHINE_ID"):
        assert len({daemon["environment"][what] for daemon in daemons}) == len(daemons)
    ports = [port for daemon in daemons for port in daemon["ports"]]
    assert len({port.split(":")[1] for port in ports}) == len(daemons)
    for port in ports:
        assert re.fullmatch(rf"127\.0\.0\.1:\d+:{PORT}", port)


@pytest.mark.parametrize("name", ETCDS)
def test_an_etcd_member_knows_itself_and_the_others(name):
    service = COMPOSE["services"][name]
    environment = service["environment"]
    members = dict(item.split("=") for item in environment["ETCD_INITIAL_CLUSTER"].split(","))
    assert tuple(members) == ETCDS
    assert environment["ETCD_NAME"] == name
    assert members[name] == environment["ETCD_INITIAL_ADVERTISE_PEER_URLS"]
    for what in ("CLIENT", "PEER"):
        advertised = environment[f"ETCD_{'INITIAL_' if what == 'PEER' else ''}ADVERTISE_{what}_URLS"]
        assert environment[f"ETCD_LISTEN_{what}_URLS"].rpartition(":")[2] == advertised.rpartition(":")[2]
    assert service["volumes"] == [f"{name}:{environment['ETCD_DATA_DIR']}"]
    assert name in COMPOSE["volumes"]
    assert service["healthcheck"]["test"][:2] == ["CMD", "etcdctl"]
    # Without it history fills the quota, and etcd then refuses every write.
    assert environment["ETCD_AUTO_COMPACTION_MODE"] == "periodic"


def test_the_systemd_unit_fits_the_daemon():
    values: dict[str, list[str]] = {}
    for line in SERVICE.splitlines():
        name, equals, value = line.partition("=")
        if equals and not line.startswith("#"):
            values.setdefault(name, []).append(value)
    assert values["Type"] == ["notify"]
    assert values["TimeoutStartSec"] == ["infinity"], "the store is waited for"
    assert values["StartLimitIntervalSec"] == ["0"]
    assert values["KillMode"] == ["process"], "the guardian and host processes outlive the daemon"
    assert values["OOMPolicy"] == ["continue"], "they are in its control group"
    grace = next(row.default for row in describe_settings() if row.name == "shutdown_grace")
    assert parse_timespan(values["TimeoutStopSec"][0]) >= 4 * parse_timespan(grace)
    assert f"/var/lib/{values['StateDirectory'][0]}" == str(load({}, {}, root=True).state_directory)
    assert values["ConfigurationDirectory"] == ["xchronos xchronos/units"]


@pytest.mark.skipif(shutil.which("systemd-analyze") is None, reason="systemd is not there to look at its own file")
@pytest.mark.parametrize("restricted", [False, True])
def test_systemd_knows_every_line_of_its_unit(tmp_path, restricted):
    text = SERVICE.replace("/usr/local/bin/xchronosd", "/bin/true")
    if restricted:
        text, turned_on = re.subn(r"^#([A-Z]\w+=)", r"\1", text, flags=re.MULTILINE)
        assert turned_on > 10
    unit = tmp_path / "xchronosd.service"
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if "xchronosd.service" in line]
    assert about_it == []
