"""The pure part: what is selected, when a change has settled, what is gone, and whose a unit is."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.clock import MILLISECOND, SECOND
from xchronos.intake import plan as plans
from xchronos.intake.files import Content, Found, Listing, Stamp, source_of
from xchronos.intake.plan import CAREFUL, Known, Taken, Waiting, doubtful, judge, plan, recall
from xchronos.intake.selection import select

SETTLE = 200 * MILLISECOND
NOW = 1_900_000_000 * SECOND
MONO = 5_000 * SECOND
LONG_AGO = (NOW - 3_600 * SECOND) * 1_000


def stamp(path: str = "/u/a.service", **facts) -> Stamp:
    return Stamp(path, **{"size": 10, "mtime_ns": LONG_AGO, **facts})


def found(*stamps: Stamp, name: str = "a.service", directory: str = "/u") -> Found:
    return Found(name, directory, stamps or (stamp(),))


def planned(units=(), taken=None, waiting=None, *, lost=(), wall=NOW, monotonic=MONO):
    return plan(
        {unit.name: unit for unit in units},
        taken or {},
        waiting or {},
        lost=lost,
        wall=wall,
        monotonic=monotonic,
        settle=SETTLE,
    )


def listing(directory: str, *names: str, **options) -> Listing:
    units = {name: stamp(f"{directory}/{name}") for name in names}
    return Listing(directory, options.pop("real", directory), (1, 2), **{"units": units, **options})


# -- plan ---------------------------------------------------------------------------------------------------------


def test_an_old_file_is_read_at_once():
    made = planned([found()])
    assert (made.read, made.gone, made.waiting, made.wait) == ([found()], [], {}, None)


def test_what_was_taken_is_not_read_again():
    made = planned([found()], {"a.service": Taken("/u", (stamp(),), "r")})
    assert (made.read, made.gone, made.wait) == ([], [], None)


@pytest.mark.parametrize("change", [{"size": 11}, {"mtime_ns": 1}, {"inode": 9}, {"ctime_ns": 9}, {"device": 9}])
def test_any_difference_is_a_change(change):
    made = planned([found(stamp(**change))], {"a.service": Taken("/u", (stamp(),), "r")})
    assert len(made.read) == 1


def test_a_fresh_file_waits_until_it_is_old_enough():
    unit = found(stamp(mtime_ns=(NOW - 50 * MILLISECOND) * 1_000))
    made = planned([unit])
    assert made.read == []
    assert made.waiting == {"a.service": Waiting(unit.stamps, MONO)}
    assert made.wait == 150 * MILLISECOND
    later = planned([unit], waiting=made.waiting, wall=NOW + made.wait, monotonic=MONO + made.wait)
    assert later.read == [unit]


@pytest.mark.parametrize("ahead", [1, SECOND, 10**9 * SECOND])
def test_a_file_from_the_future_waits_for_our_own_clock(ahead):
    unit = found(stamp(mtime_ns=(NOW + ahead) * 1_000))
    made = planned([unit])
    assert made.wait == SETTLE
    assert planned([unit], waiting=made.waiting, monotonic=MONO + SETTLE).read == [unit]


def test_every_change_starts_the_wait_anew():
    first = found(stamp(mtime_ns=NOW * 1_000))
    second = found(stamp(mtime_ns=NOW * 1_000, size=20))
    before = planned([first]).waiting
    made = planned([second], waiting=before, monotonic=MONO + SETTLE)
    assert made.read == []
    assert made.wait == SETTLE


def test_the_newest_file_of_a_unit_decides():
    unit = found(stamp(), stamp("/u/a.service.d/x.conf", mtime_ns=NOW * 1_000))
    assert planned([unit]).wait == SETTLE


def test_an_empty_file_is_believed_late_and_a_link_to_dev_null_at_once():
    empty = found(stamp(size=0, mtime_ns=NOW * 1_000))
    assert planned([empty]).wait == SETTLE * CAREFUL
    null = found(Stamp("/u/a.service", "null"))
    assert planned([null]).read == [null]


def test_an_unreadable_file_and_a_lost_drop_in_are_believed_late():
    bad = found(stamp(kind="bad", problem="is a directory"))
    assert planned([bad]).wait == SETTLE * CAREFUL
    with_drop_in = Taken("/u", (stamp(), stamp("/u/a.service.d/x.conf")), "r")
    made = planned([found()], {"a.service": with_drop_in})
    assert (made.read, made.wait) == ([], SETTLE * CAREFUL)


def test_a_unit_is_gone_when_it_stays_away():
    taken = {"a.service": Taken("/u", (stamp(),), "r")}
    made = planned([], taken)
    assert (made.gone, made.wait) == ([], SETTLE * CAREFUL)
    assert made.waiting == {"a.service": Waiting((), MONO)}
    made = planned([], taken, made.waiting, monotonic=MONO + SETTLE * CAREFUL)
    assert made.gone == ["a.service"]
    assert made.waiting == {}


def test_of_many_that_are_gone_some_wait_for_another_look(monkeypatch):
    monkeypatch.setattr(plans, "REMOVED_TOGETHER", 2)
    taken = {f"{name}.service": Taken("/u", (stamp(),), "r") for name in "abcd"}
    waiting = planned([], taken).waiting
    made = planned([], taken, waiting, monotonic=MONO + SETTLE * CAREFUL)
    assert (made.gone, set(made.waiting), made.wait) == (["a.service", "b.service"], {"c.service", "d.service"}, 0)
    # They need not settle again.
    left = {name: taken[name] for name in made.waiting}
    assert planned([], left, made.waiting, monotonic=MONO + SETTLE * CAREFUL).gone == ["c.service", "d.service"]


def test_a_unit_that_comes_back_was_never_gone():
    taken = {"a.service": Taken("/u", (stamp(),), "r")}
    waiting = planned([], taken).waiting
    back = planned([found()], taken, waiting, monotonic=MONO + SECOND)
    assert back.waiting == {}
    again = planned([], taken, back.waiting, monotonic=MONO + 2 * SECOND)
    assert again.gone == []


def test_nothing_that_lay_in_a_lost_directory_changes():
    taken = {
        "a.service": Taken("/etc", (stamp("/etc/a.service"),), "r"),
        "b.service": Taken("/lib", (stamp("/lib/b.service"), stamp("/etc/b.service.d/x.conf")), "r"),
        "c.service": Taken("/etc", (stamp("/etc/c.service"),), "r"),
        "d.service": Taken("/etc", (), "r"),
    }
    units = [
        found(stamp(f"/lib/{name}"), name=name, directory="/lib") for name in ("a.service", "b.service", "d.service")
    ]
    made = planned(units, taken, lost={"/etc"})
    assert (made.read, made.gone, made.waiting, made.wait) == ([], [], {}, None)


def test_a_directory_is_not_lost_because_one_with_a_longer_name_is():
    taken = {"a.service": Taken("/u2", (stamp("/u2/a.service"),), "r")}
    assert planned([], taken, lost={"/u"}).wait == SETTLE * CAREFUL


@given(
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=4),
    st.dictionaries(st.sampled_from("abcd"), st.integers(0, 3), max_size=4),
    st.booleans(),
)
def test_left_alone_everything_is_dealt_with_once(files, before, fresh):
    age = 0 if fresh else 3_600 * SECOND
    units = [
        found(stamp(f"/u/{name}", size=size, mtime_ns=(NOW - age) * 1_000), name=name) for name, size in files.items()
    ]
    taken = {
        name: Taken("/u", (stamp(f"/u/{name}", size=size, mtime_ns=LONG_AGO),), "r") for name, size in before.items()
    }
    waiting, done, passed = {}, [], 0
    for _ in range(10):
        made = planned(units, taken, waiting, wall=NOW + passed, monotonic=MONO + passed)
        waiting = made.waiting
        for unit in made.read:
            taken[unit.name] = Taken("/u", unit.stamps, "r")
        for name in made.gone:
            del taken[name]
        done += [unit.name for unit in made.read] + made.gone
        if made.wait is None:
            break
        assert made.wait > 0
        passed += made.wait
    assert made.wait is None
    assert len(done) == len(set(done))
    assert {name: record.stamps for name, record in taken.items()} == {unit.name: unit.stamps for unit in units}


# -- judge --------------------------------------------------------------------------------------------------------


def judged(known, *, lost=(), directories=("/u", "/lib"), revision="r2"):
    return judge(Content(found(), b"x", (), revision), known, directories=directories, lost=lost, by="intake@m1")


@pytest.mark.parametrize(
    ("known", "action"),
    [
        (None, "submit"),
        (Known("r2", "directory:/u"), "keep"),
        (Known("r1", "directory:/u", "intake@m9"), "submit"),
        (Known("r1", "directory:/lib"), "submit"),
        (Known("r2", "directory:/lib"), "submit"),
        (Known("r1", ""), "conflict"),
        (Known("r2", ""), "keep"),
        (Known("r1", "api", "anna"), "conflict"),
        (Known("r1", "api", "intake@m1"), "conflict"),
        (Known("r1", "directory:/other", "intake@m1"), "submit"),
        (Known("r1", "directory:/other", "intake@m2"), "conflict"),
    ],
)
def test_whose_the_unit_is(known, action):
    assert judged(known).action == action


def test_a_conflict_says_what_to_do():
    assert judged(Known("r1", "directory:/other", "intake@m2")).reason == (
        "a unit of this name comes from directory:/other (by intake@m2) and stays in force: "
        "remove this file, or destroy a.service to have the file taken in"
    )
    assert "was submitted by other means and stays" in judged(Known("r1", "")).reason


def test_a_file_of_a_lost_directory_still_hides_those_behind_it():
    assert judged(Known("r1", "directory:/lib"), lost={"/lib"}).action == "keep"
    assert judged(Known("r1", "directory:/u", "", ("/lib/a.service.d/x.conf",)), lost={"/lib"}).action == "keep"


# -- recall and doubt ---------------------------------------------------------------------------------------------


def test_recall():
    stored = {
        "mine.service": Known("r1", "directory:/u", "intake@m1"),
        "theirs.service": Known("r1", "directory:/u", "intake@m2"),
        "theirs-too.service": Known("r1", "directory:/u", "intake@m2"),
        "by-hand.service": Known("r1", "", "anna"),
        "same.service": Known("r1", "directory:/u", "intake@m1"),
        "other.service": Known("r2", "directory:/u", "intake@m1"),
        "back.service": Known("r1", "directory:/u", "intake@m2"),
        "taken-over.service": Known("r1", "", "anna"),
    }
    kept = Taken("/u", (stamp(),), "r1")
    remembered = {
        "theirs-too.service": kept,
        "same.service": kept,
        "other.service": kept,
        "wiped.service": kept,
        "gone.service": Taken("/u", (stamp(),), "r1", destroyed=True),
        "back.service": Taken("/u", (stamp(),), "r1", destroyed=True),
        "elsewhere.service": Taken("/w", (stamp(),), "r1", destroyed=True),
        "taken-over.service": kept,
    }
    assert recall(stored, remembered, directories=["/u"], by="intake@m1") == {
        "mine.service": Taken("/u", (), "r1"),
        "theirs-too.service": kept,
        "same.service": kept,
        "other.service": Taken("/u", (), "r2"),
        "gone.service": remembered["gone.service"],
        "back.service": Taken("/u", (), "r1"),
        "taken-over.service": kept,
    }


@pytest.mark.parametrize(
    ("identity", "has_units", "trusted", "taken", "expected"),
    [
        ((1, 1), True, {}, True, set()),
        ((1, 1), False, {}, True, {"/u"}),
        ((1, 1), False, {}, False, set()),
        ((1, 1), False, {"/u": (1, 1)}, True, set()),
        ((2, 1), False, {"/u": (1, 1)}, True, {"/u"}),
    ],
)
def test_doubtful(identity, has_units, trusted, taken, expected):
    before = {"a.service": Taken("/u")} if taken else {"a.service": Taken("/u", destroyed=True)}
    assert doubtful({"/u": (identity, has_units)}, trusted, before) == expected


# -- select -------------------------------------------------------------------------------------------------------


def test_the_first_directory_counts():
    chosen = select([listing("/etc", "a.service"), listing("/lib", "a.service", "b.service")])
    assert {name: unit.path for name, unit in chosen.units.items()} == {
        "a.service": "/etc/a.service",
        "b.service": "/lib/b.service",
    }


def test_bad_names_are_told():
    chosen = select([listing("/u", "@x.service", "a b.service", "ok.service")])
    assert list(chosen.units) == ["ok.service"]
    assert set(chosen.bad_names) == {"/u/@x.service", "/u/a b.service"}


@pytest.mark.parametrize(
    ("name", "target", "alias"),
    [
        ("a.service", "/u/b.service", "b.service"),
        ("a.service", "/real/b.service", "b.service"),
        ("a.service", "/elsewhere/b.service", None),
        ("a.service", "/lib/a.service", None),
        ("a.service", "/u/text", None),
        ("r@eu.service", "/u/r@.service", None),
        ("r@eu.service", "/u/s@.service", "s@.service"),
        ("r@eu.service", "/u/r@us.service", "r@us.service"),
        ("r@.service", "/u/s@.service", "s@.service"),
    ],
)
def test_links(name, target, alias):
    units = {name: stamp(f"/u/{name}", target=target)}
    hidden = listing("/lib", name)
    chosen = select([listing("/u", units=units, real="/real"), hidden])
    assert chosen.aliases == ({name: alias} if alias else {})
    assert list(chosen.units) == ([] if alias else [name])


def test_a_dangling_second_name_is_a_problem_of_its_own():
    units = {"a.service": stamp(kind="bad", target="/u/b.service", problem="dangling")}
    chosen = select([listing("/u", units=units)])
    assert chosen.units["a.service"].problem == "/u/a.service: dangling"


def test_drop_ins_of_all_directories_in_their_order():
    etc = listing(
        "/etc",
        drop_ins={
            "a.service.d": {"50-x.conf": stamp("/etc/a.service.d/50-x.conf")},
            "b.service.d": {"1.conf": stamp("/etc/b.service.d/1.conf")},
        },
    )
    lib = listing(
        "/lib",
        "a.service",
        drop_ins={
            "a.service.d": {"50-x.conf": stamp("/lib/a.service.d/50-x.conf")},
            "service.d": {"10-y.conf": stamp("/lib/service.d/10-y.conf")},
        },
    )
    unit = select([etc, lib]).units["a.service"]
    assert [part.path for part in unit.stamps] == [
        "/lib/a.service",
        "/lib/service.d/10-y.conf",
        "/etc/a.service.d/50-x.conf",
    ]
    masked = msgspec_replace(lib, {"a.service": Stamp("/lib/a.service", "null")})
    assert len(select([etc, masked]).units["a.service"].stamps) == 1


def msgspec_replace(found_listing: Listing, units: dict[str, Stamp]) -> Listing:
    return Listing(found_listing.directory, found_listing.real, found_listing.identity, units, found_listing.drop_ins)


def test_the_source_names_the_directory():
    assert source_of("/etc/xchronos/units") == "directory:/etc/xchronos/units"
