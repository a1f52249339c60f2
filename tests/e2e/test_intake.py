"""The directory: bad files harm nobody, their last good version stays, and what is removed goes."""

from tests.data.bad_units import BAD_UNITS
from tests.e2e.house import House, eventually

GOOD = """[Service]
Type=oneshot
ExecStart=/bin/true
[X-Chronos]
TriggerCron=* * * * * *
"""


def test_fifty_bad_files_harm_neither_the_daemon_nor_the_good_units(house: House) -> None:
    house.drop("good.service", GOOD)
    for name, data, _, _ in BAD_UNITS:
        (house.units / name).write_bytes(data)
    house.start()
    eventually(lambda: len(house.ended("good.service")) >= 2)
    status = eventually(lambda: _complete(house.text("status")))
    for name, _, fragment, line in BAD_UNITS:
        if name.endswith(".service"):
            assert f"{name}:{line}" in status if line else name in status, name
            assert fragment in status, name
    before = len(house.ended("good.service"))
    eventually(lambda: len(house.ended("good.service")) > before + 1)


def _complete(status: str) -> str:
    """The daemon's status, once every bad file is in it."""
    return status if all(name in status for name, *_ in BAD_UNITS if name.endswith(".service")) else ""


def test_a_file_that_goes_bad_keeps_its_last_good_version_and_a_removed_one_goes(house: House) -> None:
    house.start()
    house.drop("kept.service", GOOD)
    eventually(lambda: house.ctl("cat", "kept.service").stdout == GOOD.encode())
    house.drop("kept.service", GOOD.replace("* * * * * *", "* * * 32 * *"))
    eventually(lambda: "day-of-month" in house.text("status"))
    assert house.ctl("cat", "kept.service").stdout == GOOD.encode()
    before = len(house.ended("kept.service"))
    eventually(lambda: len(house.ended("kept.service")) > before)
    (house.units / "kept.service").unlink()
    eventually(lambda: house.ctl("cat", "kept.service").returncode == 3)
    assert "kept.service" not in house.text("list-units")
