"""The container image, the compose file and the systemd unit say what is so: files, settings, names, times."""

import http.server
import json
import re
import shlex
import shutil
import socket
import socketserver
import subprocess
import sys
import threading
import tomllib
from typing import Any

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
    wheel = project["tool"]["hatch"]["build"]["targets"]["wheel"]
    needed |= {*wheel["packages"], *wheel["shared-data"]}
    assert copied == needed
    ignored = (ROOT / ".dockerignore").read_text(encoding="utf-8").split()
    assert ignored[0] == "*"
    assert {line.removeprefix("!") for line in ignored if line.startswith("!")} == copied
    for name in copied:
        assert (ROOT / name).exists(), name


def test_the_image_runs_the_daemon(tmp_path):
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    (entry,) = (json.loads(rest) for rest in values("ENTRYPOINT"))
    assert entry[0] in project["project"]["scripts"]
    # Its unit directory is there: a missing one would be told as a fault.
    made, _, settings = values("RUN")[1].partition(" && ")
    assert [f"mkdir -p {directory}" for directory in json.loads(values("CMD")[0])] == [made]
    assert values("EXPOSE") == [PORT]
    # A variable would count more than a settings file that is mounted over this one.
    assert {setting.partition("=")[0] for setting in values("ENV")} == {"PATH"}
    content, _, path = settings.partition(" > ")
    assert path == "/etc/xchronos/xchronosd.toml", "where root's settings are read"
    file = tmp_path / "xchronosd.toml"
    file.write_text(subprocess.run(["sh", "-c", content], capture_output=True, text=True, check=True).stdout)
    assert load({}, {}, [file]).api_listen == f"0.0.0.0:{PORT}"
    (base,) = (rest.removeprefix("PYTHON=") for rest in values("ARG") if rest.startswith("PYTHON="))
    wanted = project["project"]["requires-python"].removeprefix(">=")
    assert base >= f"python:{wanted}"
    assert {rest.split()[0] for rest in values("FROM")} == {"${PYTHON}"}


@pytest.mark.parametrize("listen", [":{}", "127.0.0.1:{}", "0.0.0.0:{}", "unix://{}"])
@pytest.mark.parametrize(("status", "code"), [(200, 0), (503, 1)])
def test_the_image_asks_the_daemon_how_it_is(tmp_path, listen, status, code):
    (probe,) = values("HEALTHCHECK")
    program, *options = json.loads(probe.partition("CMD ")[2])
    assert program == json.loads(values("ENTRYPOINT")[0])[0]
    asked = []

    class Daemon(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            asked.append((self.path, self.headers["Authorization"]))
            self.send_response(status)
            self.end_headers()
            self.wfile.write(b'{"status":"well"}' if status == 200 else b'{"error":"the reason"}')

        def log_message(self, *_):
            pass

    class Local(http.server.HTTPServer):
        address_family = socket.AF_UNIX if "unix" in listen else socket.AF_INET

        def server_bind(self):
            socketserver.TCPServer.server_bind(self)

        def get_request(self):
            return self.socket.accept()[0], ("somebody", 0)

    path = str(tmp_path / "api.sock")
    place: Any = path if "unix" in listen else ("127.0.0.1", 0)
    with Local(place, Daemon) as daemon:
        thread = threading.Thread(target=daemon.handle_request)
        thread.start()
        where = listen.format(path if "unix" in listen else daemon.server_address[1])
        environment = {"XCHRONOS_API_LISTEN": where, "XCHRONOS_API_TOKEN": "t", "PATH": "", "PYTHONPATH": str(ROOT)}
        done = subprocess.run(
            [sys.executable, "-m", "xchronos", "daemon", *options],
            env=environment, capture_output=True, text=True, check=False,
        )  # fmt: skip
        thread.join()
    said = '{"status":"well"}' if status == 200 else "the reason"
    assert (done.returncode, done.stdout, done.stderr) == (code, f"{said}\n", "")
    assert asked == [(next(iter(healthz.paths)), "Bearer t")]


def test_a_health_check_says_that_nobody_answers(tmp_path):
    done = subprocess.run(
        [sys.executable, "-m", "xchronos", "daemon", "--health", f"--api-listen=unix://{tmp_path}/none"],
        capture_output=True, text=True, check=False,
    )  # fmt: skip
    assert done.returncode == 1
    assert "cannot connect" in done.stdout


def test_the_package_brings_what_systemd_and_people_need():
    """The unit names the files where the package puts them, and its settings from outside may be missing."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))
    shared = project["tool"]["hatch"]["build"]["targets"]["wheel"]["shared-data"]
    assert set(shared) == {"packaging/xchronosd.service", "packaging/xchronosd.toml"}
    for place in shared.values():
        assert f"/opt/xchronos/{place}" in SERVICE
        assert f"/opt/xchronos/{place}" in (ROOT / "README.md").read_text(encoding="utf-8")
    assert "ExecStart=/opt/xchronos/bin/xchronosd /etc/xchronos/units" in SERVICE
    assert "EnvironmentFile=-/etc/xchronos/xchronosd.env" in SERVICE


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
    text = SERVICE.replace("/opt/xchronos/bin/xchronosd", "/bin/true")
    if restricted:
        text, turned_on = re.subn(r"^#([A-Z]\w+=)", r"\1", text, flags=re.MULTILINE)
        assert turned_on > 10
    unit = tmp_path / "xchronosd.service"
    unit.write_text(text, encoding="utf-8")
    done = subprocess.run(["systemd-analyze", "verify", unit], capture_output=True, text=True, check=False)
    about_it = [line for line in done.stderr.splitlines() if "xchronosd.service" in line]
    assert about_it == []
