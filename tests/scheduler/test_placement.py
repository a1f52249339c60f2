import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from tests.scheduler.schedule_builders import asks, job, step, view
from xchronos.model.unit import Container
from xchronos.scheduler.feasibility import (
    ENOUGH_TO_BEGIN,
    MEBIBYTE,
    MachineView,
    Running,
    displaced,
    executors_needed,
    fits,
    has_room,
    have_enough_to_begin,
)
from xchronos.scheduler.placement import place
from xchronos.scheduler.ranking import FEW, FIRST_LOOK, MANY, Ranking
from xchronos.scheduler.rejections import Rejection, by_machine, summary
from xchronos.unitfile.fleet.requirements import MetadataTerm

IMAGE = Container("busybox", {})

LEAVE = " (allow_process in its settings does, and a [Container] needs none)"


def running(**units):
    """Units by their prefix: what each asks."""
    return {f"{name}.service": Running(asked) for name, asked in units.items()}


@pytest.mark.parametrize(
    ("machines", "room"),
    [
        ([], False),
        ([view("a")], True),
        ([view("a", cordoned=True)], False),
        ([view("a", attempts=2, slots=2), view("b", cordoned=True)], False),
        ([view("a", attempts=2, slots=2), view("b", attempts=1, slots=2)], True),
    ],
)
def test_whether_the_cluster_has_room(machines, room):
    assert has_room(machines) is room


@pytest.mark.parametrize(
    ("machines", "unbegun", "enough"),
    [
        ([], {}, False),
        ([view("a")], {}, False),
        ([view("a")], {"a": ENOUGH_TO_BEGIN}, True),
        ([view("a"), view("b")], {"a": ENOUGH_TO_BEGIN}, False),
        ([view("a"), view("b", cordoned=True)], {"a": ENOUGH_TO_BEGIN}, True),
        ([view("b", cordoned=True)], {"b": ENOUGH_TO_BEGIN}, False),
    ],
)
def test_whether_the_machines_have_enough_to_begin(machines, unbegun, enough):
    assert have_enough_to_begin(machines, unbegun) is enough


class TestFeasibility:
    @pytest.mark.parametrize(
        ("unit", "machine", "messages"),
        [
            (job(), view("m"), []),
            (job(), view("m", cordoned=True), ["is cordoned"]),
            (job(requirements=asks(machine_id="m")), view("m"), []),
            (job(requirements=asks(machine_id="595989bb")), view("595989bb-cbb7-49ce"), []),
            (job(requirements=asks(machine_id="other")), view("m"), ["is not other"]),
            (job(requirements=asks(metadata={"disk": ("ssd",)})), view("m", metadata={"disk": "ssd"}), []),
            (
                job(requirements=asks(metadata={"disk": ("nvme", "ssd"), "region": ("eu",)})),
                view("m", metadata={"disk": "hdd"}),
                ["lacks disk=nvme|disk=ssd (it has disk=hdd)", "lacks region=eu"],
            ),
            (
                job(requirements=asks(terms=(MetadataTerm("cores", ">=", "8"), MetadataTerm("zone", "!=", "a")))),
                view("m", metadata={"cores": "4", "zone": "b"}),
                ["lacks cores>=8 (it has cores=4)"],
            ),
            (job(requirements=asks(peers=("db.service",))), view("m"), ["does not run db.service (MachineOf)"]),
            (job(requirements=asks(peers=("db.service",))), view("m", running(db=asks())), []),
            (
                job(requirements=asks(conflicts=("d*.service",))),
                view("m", running(db=asks(), c=asks())),
                ["is taken by a conflict with db.service"],
            ),
            (
                job(),
                view("m", running(db=asks(conflicts=("a.*",)), c=asks())),
                ["is taken by a conflict with db.service"],
            ),
            (job(requirements=asks(conflicts=("a.*",))), view("m", running(a=asks(conflicts=("a.*",)))), []),
            (job(), view("m", running(db=asks(replaces=("a.*",)))), ["runs db.service, which replaces it"]),
            (job(), view("m", running(db=asks(replaces=("b.*",)))), []),
            (job(requirements=asks(replaces=("db.*",))), view("m", running(db=asks())), []),
            (job(requirements=asks(replaces=("db.*",))), view("m", running(db=asks(replaces=("a.*",)))), []),
            (
                job(),
                view("m", docker="unavailable: connection refused"),
                ["has no usable Docker engine: connection refused"],
            ),
            (job(), view("m", executors=("process",)), ["does not allow the docker executor"]),
            (job(docker=False), view("m"), [f"does not allow the process executor{LEAVE}"]),
            (job(docker=False), view("m", executors=("process",), docker="unavailable: gone"), []),
            (job(), view("m", attempts=2, slots=3), []),
            (job(), view("m", attempts=3, slots=3), ["has no free slot (3 of 3 are taken)"]),
            (job(memory=512 * MEBIBYTE), view("m", memory=512 * MEBIBYTE, total_memory=1024 * MEBIBYTE), []),
            (
                job(memory=513 * MEBIBYTE),
                view("m", memory=512 * MEBIBYTE, total_memory=1024 * MEBIBYTE),
                ["has less than 513 MiB of memory free (512 MiB of 1024 MiB)"],
            ),
            (job(memory=1), view("m"), []),
            (job(cpus=0.1), view("m", cpus=0.1 + 0.2, total_cpus=0.4), []),
            (job(cpus=1.5), view("m", cpus=1, total_cpus=2), ["has fewer than 1.5 CPUs free (1 of 2)"]),
            (
                job(requirements=asks(metadata={"a": ("b",)}, peers=("p.service",)), memory=2, cpus=1),
                view("m", attempts=1, slots=1, cordoned=True, total_memory=1, total_cpus=0.5, executors=()),
                [
                    "is cordoned",
                    "lacks a=b",
                    "does not allow the docker executor",
                    "does not run p.service (MachineOf)",
                    "has no free slot (1 of 1 are taken)",
                    "has less than 1.90735e-06 MiB of memory free (9.53674e-07 MiB of 9.53674e-07 MiB)",
                    "has fewer than 1 CPUs free (0.5 of 0.5)",
                ],
            ),
        ],
    )
    def test_every_reason_is_named(self, unit, machine, messages):
        found = fits(unit, machine)
        assert [rejection.message for rejection in found] == messages
        assert {rejection.machine for rejection in found} <= {machine.machine.id}

    @pytest.mark.parametrize(
        ("unit", "needed"),
        [
            (job(), ["docker"]),
            (job(docker=False), ["process"]),
            (job(docker=False, needs_docker=True), ["docker", "process"]),
            (job(docker=False, container=IMAGE), ["docker"]),
            (job(docker=False, executor="http"), ["http"]),
            (job(steps=(step(), step("start-pre-0", docker=False)), executor="python"), ["docker", "python"]),
            (job(steps=()), []),
        ],
    )
    def test_which_executors_a_unit_needs(self, unit, needed):
        assert executors_needed(unit) == needed


class TestRanking:
    def test_the_least_loaded_relative_to_its_slots_then_the_id(self):
        views = [view("c", attempts=1), view("b", attempts=1), view("d", attempts=2)]
        assert place(job(), views, copies=3).machines == ("b", "c", "d")
        assert place(job(), [view("a", attempts=5, slots=10), view("b", attempts=8, slots=20)]).machines == ("b",)
        assert place(job(), [view("a", attempts=1, slots=10), view("b", attempts=1)]).machines == ("b",)

    def test_random_is_the_seeds(self):
        unit, views = job(load_balancing="random"), [view(f"m{n}") for n in range(4)]
        chosen = [place(unit, views, seed=f"e{n}").machines[0] for n in range(400)]
        assert chosen == [place(unit, reversed(views), seed=f"e{n}").machines[0] for n in range(400)]
        assert all(70 < chosen.count(f"m{n}") < 130 for n in range(4))

    def test_round_robin_goes_on_behind_the_last(self):
        unit, views = job(load_balancing="round-robin"), [view(name) for name in "dbca"]
        assert [place(unit, views, last=last).machines[0] for last in ("", "a", "bx", "c", "d")] == list("abcda")

    def test_a_retry_goes_elsewhere_if_it_can(self):
        views = [view("a"), view("b", attempts=9), view("c", attempts=7, cordoned=True)]
        assert place(job(), views, avoid=("a",)).machines == ("b",)
        assert place(job(), views, avoid=("a", "b")).machines == ("a",)
        assert place(job(), views, avoid=("b", "a")).machines == ("b",)
        assert place(job(), [view("a")], avoid=("a",)).machines == ("a",)


class TestCopies:
    def test_availability_on_distinct_machines(self):
        decided = place(job(availability=3), [view("a"), view("b")])
        assert decided.machines == ("a", "b")
        assert decided.unplaced == 1

    def test_other_copies_keep_their_machines(self):
        decided = place(job(), [view("a"), view("b")], copies=1, taken={"a"})
        assert decided.machines == ("b",)
        assert decided.summary == ""
        assert place(job(), [view("a")], copies=1, taken={"a"}).rejections == (Rejection("a", "copy"),)

    def test_global_takes_every_machine_that_fits(self):
        unit = job(requirements=asks(is_global=True, metadata={"r": ("eu",)}))
        views = [view("a", metadata={"r": "eu"}), view("b"), view("c", metadata={"r": "eu"})]
        decided = place(unit, views, copies=1)
        assert (decided.machines, decided.unplaced) == (("a", "c"), 0)
        assert place(unit, views, taken={"a", "c"}).unplaced == 0
        assert place(unit, [view("b")]).unplaced == 1

    def test_whom_it_replaces_is_displaced(self):
        machine = view("a", running(old=asks(), other=asks(), mutual=asks(replaces=("a.*",))))
        assert displaced(job(requirements=asks(replaces=("old.*", "mutual.*"))), machine) == ["old.service"]


class TestSummary:
    def test_the_example_of_the_design(self):
        unit = job(requirements=asks(metadata={"region": ("us-east-1",)}))
        views = [view("a"), view("b"), view("c", metadata={"region": "us-east-1"})]
        decided = place(unit, views, copies=1, taken=("c",))
        assert decided.summary == "1 unplaced: 2 machines lack region=us-east-1, 1 already runs a copy"
        assert by_machine(decided.rejections) == {
            "a": "lacks region=us-east-1",
            "b": "lacks region=us-east-1",
            "c": "already runs a copy",
        }

    def test_without_machines(self):
        assert place(job(availability=2), []).summary == "2 unplaced: no machine is alive"

    def test_ties_follow_the_order_of_the_checks(self):
        found = [Rejection("b", "slots"), Rejection("a", "cordoned"), Rejection("a", "metadata", "x=1")]
        assert summary(found) == "1 machine is cordoned, 1 lacks x=1, 1 has no free slot"
        assert by_machine(found)["a"] == "is cordoned, lacks x=1"


class TestView:
    def test_take_and_release_are_each_others_reverse(self):
        picky = job("p.service", requirements=asks(conflicts=("a.*",)), memory=5, cpus=0.5)
        machine = view("m")
        machine.take(picky)
        machine.take(picky)
        assert (machine.attempts, machine.memory, machine.cpus) == (2, 10, 1.0)
        assert [r.code for r in fits(job(), machine)] == ["conflict"]
        machine.release(picky)
        assert [r.code for r in fits(job(), machine)] == ["conflict"]
        machine.release(picky)
        assert (machine.attempts, machine.memory, machine.cpus, machine.running) == (0, 0, 0.0, {})
        assert fits(job(), machine) == []
        with pytest.raises(KeyError):
            machine.release(picky)

    def test_the_newest_text_of_a_running_unit_counts(self):
        plain = job("p.service")
        picky = msgspec.structs.replace(plain, requirements=asks(conflicts=("a.*",)))
        machine = view("m")
        for unit, codes in ((plain, []), (picky, ["conflict"]), (plain, [])):
            machine.take(unit)
            assert [r.code for r in fits(job(), machine)] == codes

    def test_it_starts_with_what_runs(self):
        given_ = running(p=asks(replaces=("a.*",)))
        machine = MachineView(view("m").machine, given_, 1)
        assert [r.code for r in fits(job(), machine)] == ["replaced"]
        machine.take(job())
        assert list(given_) == ["p.service"]


names = st.sampled_from(["a", "b", "c", "d", "e", "f"])
machines = st.lists(
    st.builds(
        view,
        names,
        st.dictionaries(
            st.sampled_from(["x.service", "y.service"]),
            st.builds(Running, st.builds(asks, conflicts=st.sampled_from([(), ("a.*",)]))),
        ),
        attempts=st.integers(0, 3),
        slots=st.integers(0, 3),
        cordoned=st.booleans(),
        metadata=st.dictionaries(st.just("r"), st.sampled_from(["eu", "us"])),
    ),
    unique_by=lambda v: v.machine.id,
    max_size=6,
)
units = st.builds(
    job,
    availability=st.integers(1, 4),
    load_balancing=st.sampled_from(["workload", "random", "round-robin"]),
    requirements=st.builds(
        asks,
        metadata=st.sampled_from([{}, {"r": ("eu",)}]),
        conflicts=st.sampled_from([(), ("y.*",)]),
        is_global=st.booleans(),
    ),
)


@given(units, machines, st.sets(names), st.lists(names, unique=True), st.text(max_size=3))
def test_placement(unit, views, taken, avoid, seed):
    decided = place(unit, views, taken=taken, avoid=avoid, seed=seed, last=seed)
    by_id = {v.machine.id: v for v in views}
    assert len(set(decided.machines)) == len(decided.machines)
    assert taken.isdisjoint(decided.machines)
    assert all(fits(unit, by_id[machine]) == [] for machine in decided.machines)
    feasible = {machine for machine, v in by_id.items() if machine not in taken and not fits(unit, v)}
    if decided.unplaced or unit.is_global:
        # Every machine is either feasible or refused with all of its reasons.
        assert {rejection.machine for rejection in decided.rejections} == set(by_id) - feasible
        for machine in set(by_id) - feasible - taken:
            assert [r for r in decided.rejections if r.machine == machine] == fits(unit, by_id[machine])
    else:
        assert decided.rejections == ()
    if unit.is_global:
        assert set(decided.machines) == feasible
    else:
        assert len(decided.machines) == min(unit.availability, len(feasible))
        assert decided.unplaced == unit.availability - len(decided.machines)
    assert bool(decided.summary) is bool(decided.unplaced)
    fresh = [machine for machine in decided.machines if machine not in avoid]
    assert decided.machines[: len(fresh)] == tuple(fresh)


@given(st.lists(st.tuples(st.sampled_from(["add", "remove", "take", "release", "cordon"]), names), max_size=40))
def test_a_ranking_follows_its_machines(steps):
    unit, ranking, views = job(), Ranking(), {}
    for action, name in steps:
        found = views.get(name)
        if action == "add" and found is None:
            views[name] = view(name, slots=len(views) + 1)
            ranking.add(views[name])
        elif action == "remove":
            views.pop(name, None)
            ranking.remove(name)
        elif found is not None:
            if action == "take":
                found.take(unit)
            elif action == "release" and found.attempts:
                found.release(unit)
            elif action == "cordon":
                found.machine = msgspec.structs.replace(found.machine, cordoned=not found.machine.cordoned)
            ranking.moved(found)
        for how in ("workload", "random", "round-robin"):
            asked = job(load_balancing=how, availability=2)
            decided = place(asked, ranking, seed=name, last=name)
            assert decided == place(asked, list(views.values()), seed=name, last=name)
            ordered = [one.machine.id for one in ranking.ordered(asked, name, name)]
            assert sorted(ordered) == sorted(views)
            if how == "workload":
                loads = [(views[one].machine.cordoned, views[one].load, one) for one in ordered]
                assert loads == sorted(loads)


HOW = ("workload", "random", "round-robin")


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("racks", [1, 2, 100])
def test_of_many_machines_few_are_judged(monkeypatch, how, racks):
    judged: list[str] = []

    def noted(unit, view):
        judged.append(view.machine.id)
        return fits(unit, view)

    monkeypatch.setattr("xchronos.scheduler.placement.fits", noted)
    ranking = Ranking(view(f"m{n:04d}", metadata={"rack": str(n % racks)}) for n in range(1_000))
    asked = asks(metadata={"rack": ("0",)}) if racks > 1 else asks()
    unit = job(load_balancing=how, requirements=asked)
    last = ""
    for n in range(2_000):
        (last,) = place(unit, ranking, seed=f"e{n}", last=last).machines
        ranking.views[last].take(unit)
        ranking.moved(ranking.views[last])
    assert len(judged) == 2_000
    loads = [one.attempts for one in ranking.views.values() if one.machine.metadata["rack"] == "0"]
    assert sum(loads) == 2_000
    if how != "random" and (how == "round-robin" or racks != 2):
        assert max(loads) - min(loads) <= 1
    elif how == "workload":
        # The least loaded of a few that were drawn.
        assert len(loads) > MANY
        assert max(loads) - min(loads) <= 4


@pytest.mark.parametrize("how", HOW)
@pytest.mark.parametrize("fitting", [0, 1, MANY + 1])
def test_every_machine_is_named_once_whatever_comes_first(how, fitting):
    views = [view(f"m{n:03d}", executors=("docker",) if n < fitting else ()) for n in range(MANY + 10)]
    ranking = Ranking(views)
    unit = job(load_balancing=how)
    for n in range(MANY):
        ordered = [one.machine.id for one in ranking.ordered(unit, str(n), f"m{n:03d}")]
        assert sorted(ordered) == [one.machine.id for one in views]
        assert len(place(unit, ranking, seed=str(n), copies=2).machines) == min(fitting, 2)
    # What a machine can do is looked up anew when its record changes, and when machines come and go.
    views[-1].machine = view("x", executors=("docker",)).machine
    views[-1].machine = msgspec.structs.replace(views[-1].machine, id=f"m{MANY + 9:03d}")
    ranking.moved(views[-1])
    assert len(place(unit, ranking, copies=MANY + 20).machines) == fitting + 1
    ranking.remove(views[-1].machine.id)
    ranking.add(view("new", executors=("docker",)))
    assert len(place(unit, ranking, copies=MANY + 20).machines) == fitting + 1


def test_kinds_of_requirements_are_not_remembered_without_end():
    ranking = Ranking(view(f"m{n:03d}", metadata={"n": str(n)}) for n in range(FIRST_LOOK + FEW))
    for n in range(FIRST_LOOK + FEW):
        for spelling in range(10):
            asked = asks(metadata={"n": (str(n), f"no-{spelling}")})
            assert place(job(requirements=asked), ranking).machines == (f"m{n:03d}",)
