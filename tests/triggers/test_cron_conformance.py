"""The facts of cron_next.json: other programs' measured answers, where xchronos has the same rule."""

import json
import os
import time
from datetime import datetime
from pathlib import Path

import pytest

from xchronos.clock import to_datetime, to_instant
from xchronos.errors import InvalidTrigger
from xchronos.triggers.cron.expression import parse_cron
from xchronos.triggers.zones import zone

DIRECTORY = Path(os.environ.get("XCHRONOS_CONFORMANCE") or Path(__file__).parent.parent / "conformance")
CASES = json.loads((DIRECTORY / "cron_next.json").read_text())


def against_the_document(case):
    """Why a case is another program's rule and not ours. None for the many that have the same rule."""
    if "debian" not in case.get("dst_families", ["debian"]):
        return "gaps and overlaps are Debian's, for both field counts"
    return None


@pytest.mark.parametrize("case", CASES, ids=[case["id"] for case in CASES])
def test_cron_next(case):
    reason = against_the_document(case)
    if reason:
        pytest.skip(reason)
    where = zone(case["tz"]) if case["tz"] else None
    if case.get("expect_error"):
        with pytest.raises(InvalidTrigger):
            parse_cron(case["expr"], zone=where)
        return
    trigger = parse_cron(case["expr"], zone=where)
    begin = to_instant(datetime.fromisoformat(case["from"]))
    expected = [to_instant(datetime.fromisoformat(text)) for text in case.get("expect") or []]
    nth = {int(n): to_instant(datetime.fromisoformat(text)) for n, text in case.get("expect_nth", {}).items()}
    started = time.thread_time()
    at, found = begin, []
    for _ in range(max([len(expected), *nth])):
        at = trigger.next_after(at, begin)
        assert at is not None, f"exhausted after {found}"
        found.append(at)
    assert [str(to_datetime(at)) for at in found[: len(expected)]] == [str(to_datetime(at)) for at in expected]
    assert {n: found[n - 1] for n in nth} == nth
    if case.get("exhausted"):
        assert trigger.next_after(at, begin) is None
    assert time.thread_time() - started < case.get("limit_s", 5)
    for text in case.get("expect_not", []):
        unwanted = to_instant(datetime.fromisoformat(text))
        assert trigger.next_after(unwanted - 1, begin) != unwanted
    assert trigger.count_between(begin, at, begin) == len(found)
