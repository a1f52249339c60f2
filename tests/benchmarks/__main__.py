"""`python -m tests.benchmarks [NAME ...]`: every benchmark (or those named), one table, exit code 1 when a goal is missed.

Each `bench_*.py` has `run()`, which returns `rows.Row`s.
"""

import argparse
import importlib
import logging
import sys
import time
from collections.abc import Sequence
from pathlib import Path

import structlog

from tests.benchmarks.rows import Row, table

NAMES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))


def main(arguments: Sequence[str]) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Benchmarks, all of them or those named: minutes each, in a table.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--markdown", action="store_true", help="a table for the README")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.ERROR))
    rows: list[Row] = []
    broken: list[str] = []
    for name in options.names or NAMES:
        began = time.perf_counter()
        try:
            rows += importlib.import_module(f"tests.benchmarks.bench_{name}").run()
        except Exception as error:  # noqa: BLE001 - the other benchmarks are worth their time all the same
            broken.append(f"{name}: {type(error).__name__}: {error}")
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    print(table(rows, markdown=options.markdown))
    missed = [row.name for row in rows if row.missed]
    for line in (*(f"BROKEN {name}" for name in broken), *(f"MISSED {name}" for name in missed)):
        print(line, file=sys.stderr)
    return 1 if broken or missed else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
