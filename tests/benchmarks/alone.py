"""One benchmark in a process of its own: its rows as a line of JSON.

`python -P .../alone.py NAME [--tiny]` runs the benchmark of the checkout that is the working directory and first on the
path, not of its own: what is compared with this checkout may be older than this file.
"""

import dataclasses
import importlib
import json
import logging
import sys
from pathlib import Path
from typing import Any

import structlog


def measure(name: str, *, tiny: bool = False) -> list[Any]:
    """The rows of a benchmark; `tiny`: with the arguments that the benchmark names for a mere trial."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    module = importlib.import_module(f"tests.benchmarks.bench_{name}")
    rows: list[Any] = module.run(**(module.TINY if tiny else {}))
    return rows


def refuse_strangers(checkout: Path) -> None:
    """See to it that no code of another checkout is measured, such as one that is installed where it stands.

    Raises:
        ImportError: a module of the project has come from elsewhere.
    """
    for name, module in list(sys.modules.items()):
        file = getattr(module, "__file__", None)
        if name.partition(".")[0] in ("tests", "xchronos") and file and not Path(file).is_relative_to(checkout):
            raise ImportError(f"{name} is not in {checkout}, but there is {file}")


if __name__ == "__main__":
    importlib.import_module(f"tests.benchmarks.bench_{sys.argv[1]}")
    refuse_strangers(Path.cwd())
    found = measure(sys.argv[1], tiny="--tiny" in sys.argv)
    print(json.dumps([dataclasses.asdict(row) for row in found]))
