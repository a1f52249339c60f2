"""packaging/lib.sh and packaging/test set up what is needed and nothing else."""

import subprocess
from pathlib import Path

from generated import ROOT

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
