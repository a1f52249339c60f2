"""Files that some machine's intake has refused, as every API tells of them."""

from tests.api.api_helpers import HOURLY, at
from tests.api.test_units_api import read
from xchronos.model.records import RefusedFile
from xchronos.wire.details import UnitDetail
from xchronos.wire.messages import ErrorBody, Explanation, UnitPage

WRONG = RefusedFile("/u/a.service", ("/u/a.service:3: [X-Chronos] Nope: unknown key", "more"), at(0))
SAID = "/u/a.service:3: [X-Chronos] Nope: unknown key (and 1 more), on "


async def refuse(cluster, name, machine="m2", file=WRONG):
    await cluster.put(f"{cluster.registry.keys.refused}{name}/{machine}", file)


async def test_a_file_that_is_no_unit_yet_has_a_row(api, cluster):
    await refuse(cluster, "a.service")
    await refuse(cluster, "a.service", "m1")
    await cluster.submit("b.service")
    rows = read(api.get("/v1/units"), UnitPage).units
    assert [(row.name, row.state, row.refused) for row in rows] == [
        ("a.service", "refused", SAID + "m1"),
        ("b.service", "scheduled", ""),
    ]
    detail = read(api.get("/v1/units/a.service"), UnitDetail)
    assert (detail.summary.state, detail.schedule) == ("refused", None)
    assert [(file.machine, file.path, len(file.problems)) for file in detail.refused] == [
        ("m1", "/u/a.service", 2),
        ("m2", "/u/a.service", 2),
    ]
    told = read(api.get("/v1/units/a.service/explain"), Explanation)
    assert told.refused
    assert told.lines[0] == f"there is no such unit yet: its file is refused: {SAID}m1"
    # There is nothing to be done to it.
    assert read(api.post("/v1/units/a.service/start"), ErrorBody, 404).error
    for path in ("", "/explain"):
        read(api.get(f"/v1/units/no.service{path}"), ErrorBody, 404)


async def test_a_broken_edit_shows_the_version_in_force(api, cluster):
    await cluster.submit("a.service", HOURLY)
    await refuse(cluster, "a.service", file=RefusedFile("/u/a.service", ("it is a directory",), at(0)))
    (row,) = read(api.get("/v1/units"), UnitPage).units
    assert (row.state, row.refused) == ("scheduled", "/u/a.service: it is a directory, on m2")
    detail = read(api.get("/v1/units/a.service"), UnitDetail)
    assert detail.schedule is not None
    assert detail.refused[0].since == at(0)
    told = read(api.get("/v1/units/a.service/explain"), Explanation)
    assert told.refused
    assert told.lines[-1] == "a newer file is refused: /u/a.service: it is a directory, on m2"


async def test_rows_come_in_their_place_on_every_page(api, cluster):
    for number in (1, 3, 5):
        await cluster.submit(f"u{number}.service")
        await refuse(cluster, f"u{number - 1}.service")
    await refuse(cluster, "u6.service")
    await cluster.put(f"{cluster.registry.keys.refused}u9.service/m", {"path": 1})
    found, after, pages = [], "", 0
    while True:
        page = read(api.get(f"/v1/units?limit=2&after={after}"), UnitPage)
        found += [row.name for row in page.units]
        after, pages = page.after, pages + 1
        if not after:
            break
    assert (found, pages) == ([f"u{number}.service" for number in range(7)], 4)
