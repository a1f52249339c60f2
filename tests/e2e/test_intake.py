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
    for number, bad in enumerate(BAD_UNITS):
        (house.units / f"bad-{number}.service").write_bytes(bad.data)
    house.start()
    eventually(lambda: len(house.ended("good.service")) >= 2, 30)
    status = house.text("status")
    refused = [number for number, bad in enumerate(BAD_UNITS) if bad.refused]
    assert len(refused) >= 45
    for number in refused:
        assert f"bad-{number}.service" in status
    before = len(house.ended("good.service"))
    eventually(lambda: len(house.ended("good.service")) > before + 1)


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
