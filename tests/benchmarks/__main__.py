"""`python -m tests.benchmarks [NAME ...]`: every benchmark (or those named), one table, exit code 1 when a goal is missed.

Each `bench_*.py` is a benchmark. It has

- `run(...)`, which returns `rows.Row`s, and whose arguments say how much is measured;
- `TINY`, arguments that make it as short as can be: the tests run every benchmark so, and look at no time;
- `SERVICES`, where it needs any: `etcd` or `docker`.

Above the table stands what its figures depend on: the interpreter and its build, the version of etcd, the load.
"""

import argparse
import sys
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import TypeVar

from tests.benchmarks import compare, rows, surroundings
from tests.benchmarks.alone import measure

ROOT = Path(__file__).resolve().parents[2]
NAMES = sorted(path.stem.removeprefix("bench_") for path in Path(__file__).parent.glob("bench_*.py"))
T = TypeVar("T")


def _each(names: Sequence[str], run: Callable[[str], list[T]]) -> tuple[list[T], list[str]]:
    """What the benchmarks say, and which of them are broken and why."""
    found: list[T] = []
    broken: list[str] = []
    for name in names:
        began = time.perf_counter()
        try:
            found += run(name)
        except Exception as error:  # noqa: BLE001 - the other benchmarks are worth their time all the same
            broken.append(f"BROKEN {name}: {type(error).__name__}: {error}")
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    return found, broken


def main(arguments: Sequence[str]) -> int:
    """Run and print."""
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Benchmarks, all of them or those named: minutes each, in a table.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(NAMES))
    parser.add_argument("--markdown", action="store_true", help="a table for packaging/CONTRIBUTING.md")
    parser.add_argument("--tiny", action="store_true", help="see only whether they run: the figures mean nothing")
    parser.add_argument(
        "--against",
        metavar="DIR",
        type=Path,
        help="compare with another checkout: each benchmark of this one and of DIR in turns, every run a process of its "
        "own; the table shows the median of the ratios, this checkout over DIR",
    )
    parser.add_argument("--pairs", type=int, default=9, metavar="N", help="how many runs of each checkout (default: 9)")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in NAMES]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(NAMES)}")
    if options.pairs < 1:
        parser.error("--pairs must be at least 1")
    names = options.names or NAMES
    before = surroundings.told()
    if options.against is None:
        found, complaints = _each(names, lambda name: measure(name, tiny=options.tiny))
        headings: tuple[str, ...] = rows.HEADINGS
        complaints += [f"MISSED {row.name}" for row in found if row.missed and not options.tiny]
    else:
        there = options.against.resolve()
        if not (there / "tests/benchmarks").is_dir():
            parser.error(f"{there} has no tests/benchmarks")
        found, complaints = _each(
            names, lambda name: compare.in_turns(ROOT, there, name, options.pairs, tiny=options.tiny)
        )
        headings = compare.HEADINGS
    # The load is that of before: afterwards it is mostly the benchmarks' own.
    print(before, end="\n\n")
    print(rows.table(headings, [each.cells() for each in found], markdown=options.markdown))
    print(*complaints, sep="\n", end="\n" if complaints else "", file=sys.stderr)
    return 1 if complaints else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
