"""Settings as a person gives them, and what is said of them."""

from pathlib import Path

import pytest

from xchronos.config import load
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
