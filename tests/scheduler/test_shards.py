"""The assignment of shards: balanced, agreed upon by everybody, and moving as little as possible."""

from hypothesis import given
from hypothesis import strategies as st

from xchronos.scheduler.shards import assign, score

COUNT = 16
MEMBERS = st.sets(st.text("abcdefgh0123456789-", min_size=1, max_size=8), max_size=20)
HELD = st.dictionaries(st.integers(0, COUNT - 1), st.sampled_from(["a", "b", "c", "d", "e", "ghost"]))


def load(owners):
    counts = {}
    for owner in owners.values():
        counts[owner] = counts.get(owner, 0) + 1
    return counts


def test_nobody_owns_anything_where_nobody_lives():
    assert assign(COUNT, (), {3: "a"}) == {}


def test_a_lone_scheduler_owns_everything():
    assert assign(COUNT, ["a"], {}) == dict.fromkeys(range(COUNT), "a")


def test_an_assignment_never_changes_between_versions():
    assert score(3, "m1") == 8691741485419457660
    assert assign(4, ["m1", "m2"], {}) == {0: "m1", 1: "m2", 2: "m2", 3: "m1"}


@given(MEMBERS.filter(bool), HELD)
def test_every_shard_has_an_owner_and_nobody_more_than_its_share(members, held):
    owners = assign(COUNT, members, held)
    assert sorted(owners) == list(range(COUNT))
    counts = [load(owners).get(member, 0) for member in members]
    assert set(owners.values()) <= members
    assert max(counts) - min(counts) <= 1


@given(st.lists(st.sampled_from("abcdef"), unique=True, min_size=1), HELD, st.randoms())
def test_everybody_who_sees_the_same_decides_the_same(members, held, random):
    others = random.sample(members, len(members))
    items = list(held.items())
    random.shuffle(items)
    assert assign(COUNT, members, held) == assign(COUNT, others, dict(items))


@given(MEMBERS.filter(bool), HELD)
def test_what_is_assigned_stays(members, held):
    owners = assign(COUNT, members, held)
    assert assign(COUNT, members, owners) == owners


@given(MEMBERS.filter(bool), HELD, st.data())
def test_the_moves_come_to_an_end_in_whatever_order_they_happen(members, held, data):
    """Everybody decides again after every single step: no shard changes hands twice, and what stays never leaves."""
    stays = {shard for shard, owner in assign(COUNT, members, held).items() if held.get(shard) == owner}
    held = {shard: owner for shard, owner in held.items() if owner in members}
    moved = set()
    while differing := [shard for shard, owner in assign(COUNT, members, held).items() if held.get(shard) != owner]:
        shard = data.draw(st.sampled_from(differing))
        if shard in held:
            del held[shard]
            assert shard not in moved | stays
        else:
            held[shard] = assign(COUNT, members, held)[shard]
            moved.add(shard)
    assert len(held) == COUNT


@given(MEMBERS.filter(lambda members: len(members) > 1), st.data())
def test_only_the_joining_schedulers_share_moves(members, data):
    joining = data.draw(st.sampled_from(sorted(members)))
    before = assign(COUNT, members - {joining}, {})
    after = assign(COUNT, members, before)
    moved = {shard for shard in range(COUNT) if before[shard] != after[shard]}
    assert {after[shard] for shard in moved} <= {joining}
    assert len(moved) <= COUNT // len(members) + 1


@given(MEMBERS.filter(lambda members: len(members) > 1), st.data())
def test_only_the_leaving_schedulers_shards_move(members, data):
    leaving = data.draw(st.sampled_from(sorted(members)))
    before = assign(COUNT, members, {})
    after = assign(COUNT, members - {leaving}, before)
    moved = {shard for shard in range(COUNT) if before[shard] != after[shard]}
    assert moved == {shard for shard in range(COUNT) if before[shard] == leaving}


LACKS = st.dictionaries(
    st.sampled_from(["a", "b", "c", "d", "e"]), st.dictionaries(st.integers(0, COUNT - 1), st.integers(1, 3))
)


def test_without_anything_unreadable_nothing_is_different():
    assert assign(COUNT, ["a", "b"], {3: "a"}, {"a": {}, "b": {}}) == assign(COUNT, ["a", "b"], {3: "a"})
    everybody = {"a": {3: 2}, "b": {3: 2}}
    assert assign(COUNT, ["a", "b"], {3: "a"}, everybody) == assign(COUNT, ["a", "b"], {3: "a"})


def test_who_can_read_everything_takes_what_others_cannot_and_others_take_the_rest():
    held = assign(COUNT, ["a", "b"], {})
    lacks = {"a": dict.fromkeys(range(12), 1)}
    owners = assign(COUNT, ["a", "b"], held, lacks)
    assert {shard for shard, owner in owners.items() if owner == "b"} == set(range(12))
    assert load(owners) == {"a": 4, "b": 12}
    assert assign(COUNT, ["a"], held, lacks) == dict.fromkeys(range(COUNT), "a")


def test_between_two_who_each_lack_something_the_one_that_lacks_less_has_it():
    owners = assign(COUNT, ["a", "b"], {5: "a"}, {"a": {5: 2}, "b": {5: 1}})
    assert owners[5] == "b"


@given(MEMBERS.filter(bool), HELD, LACKS)
def test_nobody_has_what_another_one_reads_better(members, held, lacks):
    owners = assign(COUNT, members, held, lacks)
    assert sorted(owners) == list(range(COUNT))
    for shard, owner in owners.items():
        unread = {member: lacks.get(member, {}).get(shard, 0) for member in members}
        assert unread[owner] == min(unread.values())


@given(st.lists(st.sampled_from("abcde"), unique=True, min_size=1), HELD, LACKS, st.randoms())
def test_everybody_who_hears_the_same_decides_the_same(members, held, lacks, random):
    others = random.sample(members, len(members))
    assert assign(COUNT, members, held, lacks) == assign(COUNT, others, held, lacks)


@given(st.sets(st.sampled_from("abcde"), min_size=1), HELD, LACKS, st.data())
def test_with_anything_unreadable_too_the_moves_come_to_an_end(members, held, lacks, data):
    held = {shard: owner for shard, owner in held.items() if owner in members}
    stays = {shard for shard, owner in assign(COUNT, members, held, lacks).items() if held.get(shard) == owner}
    moved = set()
    while differing := [
        shard for shard, owner in assign(COUNT, members, held, lacks).items() if held.get(shard) != owner
    ]:
        shard = data.draw(st.sampled_from(differing))
        if shard in held:
            assert shard not in stays
            del held[shard]
        else:
            assert shard not in moved
            moved.add(shard)
            held[shard] = assign(COUNT, members, held, lacks)[shard]
