"""packaging/lib.sh and packaging/test set up what is needed and nothing else."""

import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tests.docs.generated import ROOT

DAY_OF_ONE_DIGIT = "3.12.1 (main, Dec  8 2023, 18:57:37) [GCC 12.2.0]"
"""`sys.version` of a Python that was built on one of the first nine days of a month: two blanks stand before the day."""


def program(path: Path, *lines: str) -> Path:
    """A shell script at `path`."""
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_text("\n".join(("#!/bin/sh", *lines, "")), encoding="utf-8")
    path.chmod(0o755)
    return path


def test_what_tests_need_is_enough_for_running_whatever_pythons_version_looks_like(tmp_path):
    python = program(tmp_path / "python3", f"case $2 in *print*) echo '{DAY_OF_ONE_DIGIT}' ;; esac")
    pip = program(tmp_path / "venv/bin/python", f'echo "$@" >> {tmp_path}/installed')

    def make_venv(extras: str) -> list[str]:
        """What pip was asked for since the beginning, after a virtual environment with these extras was made."""
        lines = (
            f'ROOT={ROOT} PYTHON={python} XCHRONOS_VENV={pip.parent.parent}; . "$ROOT/packaging/lib.sh"; make_venv "$1"'
        )
        subprocess.run(["bash", "-euo", "pipefail", "-c", lines, "bash", extras], check=True, capture_output=True)
        return [line.partition(str(ROOT))[2] for line in (tmp_path / "installed").read_text("utf-8").splitlines()]

    assert make_venv("") == [""]
    assert make_venv("") == [""]
    assert make_venv("dev") == ["", "[dev]"]
    assert make_venv("dev") == ["", "[dev]"]
    assert make_venv("") == ["", "[dev]"]


@pytest.fixture
def packaging(tmp_path):
    """A packaging/test that notes what it would start, instead of starting it."""
    place = tmp_path / "packaging"
    place.mkdir()
    shutil.copy(ROOT / "packaging/test", place)
    ours = [f'ROOT={ROOT}; cd "$ROOT"', f"make_venv() {{ VENV={sys.prefix}; }}", "make_image() { :; }"]
    ours += [f"ensure_{name}() {{ echo {name} >> {tmp_path}/started; }}" for name in ("docker", "etcd", "consul")]
    library = (ROOT / "packaging/lib.sh").read_text(encoding="utf-8")
    (place / "lib.sh").write_text("\n".join((library, *ours, "")), encoding="utf-8")
    return place


def started(packaging: Path, *arguments: str, status: int = 0) -> list[str]:
    """The services that `packaging/test ARGUMENTS` starts."""
    told = packaging.parent / "started"
    told.write_text("", encoding="utf-8")
    # The tests themselves are planned and not run: servers take their time.
    environment = os.environ | {"PYTEST_ADDOPTS": "--setup-plan -p no:cacheprovider"}
    done = subprocess.run(
        [packaging / "test", *arguments], env=environment, capture_output=True, text=True, check=False
    )
    assert done.returncode == status, done.stdout + done.stderr
    return told.read_text(encoding="utf-8").split()


def test_tests_of_triggers_start_no_service(packaging):
    assert started(packaging, "tests/triggers") == []


@pytest.mark.parametrize(
    ("arguments", "services"),
    [
        (("tests/store/test_etcd_access.py",), ["etcd"]),
        (("tests/store", "-k", "twin"), ["etcd", "consul"]),
        (("tests/store", "-k", "twin", "-m", "not etcd"), ["consul"]),
        (("tests/store/test_sqlite_store.py", "tests/triggers/test_at.py"), []),
        # One of these tests uses the engine, and carries no marker.
        (("tests/e2e/test_time.py",), ["docker"]),
        (("tests/e2e/test_time.py", "-k", "misfire"), []),
    ],
)
def test_what_the_selected_tests_need_is_started_and_nothing_else(packaging, arguments, services):
    assert started(packaging, *arguments) == services


def test_what_cannot_run_starts_nothing(packaging):
    assert started(packaging, "tests/none", status=4) == []
    assert started(packaging, "tests/store", "-k", "wonderfully_absent", status=5) == []
    assert started(packaging, "--help") == []


def test_all_tests_get_every_service():
    assert "\nprovide docker etcd consul\n" in (ROOT / "packaging/test").read_text(encoding="utf-8")


@pytest.mark.parametrize("required", ["CI=true", "XCHRONOS_REQUIRE_SERVICES=1", ""])
def test_a_missing_service_skips_its_tests_or_ends_the_run(required):
    lines = (
        f'unset CI XCHRONOS_REQUIRE_SERVICES; {required or ":"}; ROOT={ROOT}; . "$ROOT/packaging/lib.sh"\n'
        "ensure_etcd() { ETCD_ADVICE=('Get it there.' 'Or here.'); return 1; }; ensure_consul() { echo consul; }\n"
        "provide etcd consul; echo tests"
    )
    done = subprocess.run(["bash", "-euo", "pipefail", "-c", lines], capture_output=True, text=True, check=False)
    assert "there is no etcd" in done.stderr
    assert "Get it there.\n" in done.stderr
    assert "Or here.\n" in done.stderr
    assert (done.returncode, done.stdout.split()) == ((1, []) if required else (0, ["consul", "tests"]))
