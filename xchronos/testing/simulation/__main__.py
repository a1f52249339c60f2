"""`python -m xchronos.testing.simulation`: many seeds, or one of them again with everything that happened."""

import argparse
import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor

from xchronos.testing.simulation.simulation import Report, simulate

SEEDS_PER_TASK = 8


def main(arguments: Sequence[str] | None = None) -> int:
    """Run seeds as the arguments say. Returns the exit code: 1 when a seed breaks a promise."""
    parser = argparse.ArgumentParser(prog="python -m xchronos.testing.simulation", description=__doc__)
    parser.add_argument("--seeds", type=int, default=100, help="how many seeds to run (100)")
    parser.add_argument("--start", type=int, default=0, help="the first of them (0)")
    parser.add_argument("--jobs", type=int, default=1, help="how many processes share them (1)")
    parser.add_argument("--seed", type=int, help="run this seed alone")
    parser.add_argument("--trace", action="store_true", help="print everything that happens (with --seed)")
    parser.add_argument("--most", type=int, default=20, help="stop after so many seeds with violations (20)")
    options = parser.parse_args(arguments)
    if options.seed is not None:
        return _one(options.seed, trace=options.trace)
    return _many(range(options.start, options.start + options.seeds), options.jobs, options.most)


def _one(seed: int, *, trace: bool) -> int:
    report = simulate(seed, trace=trace)
    for line in report.trace:
        print(line)
    _tell(report)
    print(f"seed {seed}: {report.seconds:.1f} s in {report.turns} steps, hash {report.hash}, {_figures(report.counts)}")
    return 1 if report.violations else 0


def _many(seeds: Sequence[int], jobs: int, most: int) -> int:
    began, bad, done, seconds = time.perf_counter(), 0, 0, 0.0
    counts: Counter[str] = Counter()
    for report in _reports(seeds, jobs):
        done += 1
        seconds += report.seconds
        counts.update(report.counts)
        if report.violations:
            bad += 1
            _tell(report)
            if bad >= most:
                print(f"stopped after {bad} seeds with violations")
                break
    took = time.perf_counter() - began
    print(
        f"{done} seeds, {bad} with violations; {seconds / 3600:.1f} h of cluster time in {took:.1f} s "
        f"({done / took * 60:.0f} seeds a minute)"
    )
    print(_figures(counts))
    return 1 if bad else 0


def _reports(seeds: Sequence[int], jobs: int) -> Iterator[Report]:
    if jobs <= 1:
        yield from map(simulate, seeds)
        return
    with ProcessPoolExecutor(jobs) as pool:
        try:
            yield from pool.map(simulate, seeds, chunksize=SEEDS_PER_TASK)
        finally:
            pool.shutdown(wait=False, cancel_futures=True)


def _tell(report: Report) -> None:
    for violation in report.violations:
        print(f"seed {report.seed}: {violation}")
    if report.violations:
        print(f"  again, with everything that happened: {_command(report.seed)}", flush=True)


def _command(seed: int) -> str:
    return f"python -m xchronos.testing.simulation --seed {seed} --trace"


def _figures(counts: dict[str, int]) -> str:
    return ", ".join(f"{what} {number}" for what, number in sorted(counts.items()))


if __name__ == "__main__":
    sys.exit(main())
