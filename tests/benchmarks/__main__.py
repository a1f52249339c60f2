"""`python -m tests.benchmarks [NAME ...]`: every benchmark (or those named), one table, exit code 1 when a goal is missed.

Each `bench_*.py` has `run()`, which returns rows: `name`, `value`, `unit`, what it is compared with (`reference`),
`ratio` to that, and the `goal` of the ratio, as text like `>= 5` or `<= 1.2`. Rows in other words are shown as they
are: the first figure is the value, figures called `ratio...` or `x ...` are ratios.

With `--markdown` the table is the README's.
"""

import argparse
import importlib
import math
import operator
import sys
import time
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

HERE = Path(__file__).resolve().parent
HEADINGS = ("benchmark", "result", "compared with", "ratio", "goal")
_RELATIONS = {">=": operator.ge, "<=": operator.le, ">": operator.gt, "<": operator.lt}


def cells(row: Mapping[str, Any]) -> list[tuple[str, ...]]:
    """A row as the table shows it: a line for each of its figures."""
    if "value" in row:
        result = f"{figure(row['value'])} {row.get('unit', '')}".strip()
        ratio = row.get("ratio")
        goal = str(row.get("goal") or "")
        return [
            (
                str(row["name"]),
                result,
                str(row.get("reference") or ""),
                "" if ratio is None else figure(ratio),
                goal + ("" if met(row) else " MISSED"),
            )
        ]
    names, results, ratios = [], [], []
    for key, value in row.items():
        if value is None or isinstance(value, bool):
            continue
        if not isinstance(value, (int, float)):
            names.append(str(value))
        elif key.startswith(("ratio", "x ")):
            ratios.append((key.removeprefix("ratio_to_").removeprefix("x ").replace("_", " "), figure(value)))
        else:
            results.append(f"{figure(value)} {key.replace('_', ' ')}")
    left = max(len(results) - 1, len(ratios) - 1, 0)
    columns = zip(
        [" ".join(names)] + [""] * left,
        results + [""] * (left + 1 - len(results)),
        ratios + [("", "")] * (left + 1 - len(ratios)),
        strict=True,
    )
    return [(name, result, *ratio, "") for name, result, ratio in columns]


def met(row: Mapping[str, Any]) -> bool:
    """Whether a row's goal is met; one without goal or ratio has nothing to miss."""
    goal, ratio = row.get("goal"), row.get("ratio")
    if goal is None or goal == "" or ratio is None:
        return True
    relation, _, limit = str(goal).partition(" ")
    return bool(_RELATIONS[relation](float(ratio), float(limit)))


def figure(value: Any) -> str:
    """Three digits that count, and separators of thousands."""
    if not isinstance(value, (int, float)):
        return str(value)
    if value == 0 or abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.{max(0, 2 - math.floor(math.log10(abs(value))))}f}"


def table(rows: Iterable[Sequence[str]], *, markdown: bool = False) -> str:
    """Aligned columns."""
    lines = [HEADINGS, *rows]
    widths = [max(len(line[column]) for line in lines) for column in range(len(HEADINGS))]
    if markdown:
        lines.insert(1, tuple("-" * width for width in widths))
    shown = ("  ".join, "| {} |".format)[markdown]
    padded = [[cell.ljust(width) for cell, width in zip(line, widths, strict=True)] for line in lines]
    return "\n".join(shown(" | ".join(line)) if markdown else shown(line).rstrip() for line in padded)


def main(arguments: Sequence[str]) -> int:
    """Run and print."""
    paths = {path.stem.removeprefix("bench_"): path for path in sorted(HERE.glob("bench_*.py"))}
    parser = argparse.ArgumentParser(
        prog="python -m tests.benchmarks",
        description="Benchmarks, all of them or those named: minutes each, in a table.",
    )
    parser.add_argument("names", nargs="*", metavar="NAME", help=", ".join(paths))
    parser.add_argument("--markdown", action="store_true", help="the table as the README has it")
    options = parser.parse_args(arguments)
    unknown = [name for name in options.names if name not in paths]
    if unknown:
        parser.error(f"no benchmark is called {unknown[0]!r}; there are {', '.join(paths)}")
    sys.path.insert(0, str(HERE))
    rows: list[Mapping[str, Any]] = []
    broken: list[str] = []
    for name, path in paths.items():
        if options.names and name not in options.names:
            continue
        began = time.perf_counter()
        try:
            rows += importlib.import_module(path.stem).run()
        except Exception as error:  # noqa: BLE001 - the other benchmarks are worth their time all the same
            broken.append(f"{name}: {type(error).__name__}: {error}")
        print(f"{name}: {time.perf_counter() - began:.1f} s", file=sys.stderr)
    print(table([line for row in rows for line in cells(row)], markdown=options.markdown))
    missed = [str(row.get("name")) for row in rows if not met(row)]
    for line in (*(f"BROKEN {name}" for name in broken), *(f"MISSED {name}" for name in missed)):
        print(line, file=sys.stderr)
    return 1 if broken or missed or not rows else 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
