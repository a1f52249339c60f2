"""What is kept because it was used last."""

from collections import OrderedDict

from hypothesis import given
from hypothesis import strategies as st

from xchronos.store.recent import LruCache


def test_what_was_not_used_for_longest_goes_first():
    cache = LruCache[str, int](3)
    for number, name in enumerate("abc"):
        cache.put(name, number)
    assert cache.get("a") == 0, "used"
    assert "b" in cache, "looked at only"
    cache.put("d", 3)
    assert [name for name in "abcd" if name in cache] == ["a", "c", "d"]
    cache.put("c", 9)
    cache.put("e", 4)
    assert [name for name in "abcde" if name in cache] == ["c", "d", "e"]
    assert (cache.get("c"), cache.get("a"), len(cache)) == (9, None, 3)


def test_what_is_taken_away_makes_room():
    cache = LruCache[str, int](2)
    cache.put("a", 1)
    cache.put("b", 2)
    assert (cache.pop("a"), cache.pop("a")) == (1, None)
    cache.put("c", 3)
    assert (cache.get("b"), cache.get("c")) == (2, 3)


def test_weights_bound_what_is_kept():
    cache = LruCache[str, bytes](10, len)
    cache.put("a", b"1234")
    cache.put("b", b"1234")
    cache.put("a", b"123456")
    assert (cache.get("a"), cache.get("b")) == (b"123456", b"1234"), "what was replaced weighs nothing"
    cache.put("c", b"12")
    assert [name for name in "abc" if name in cache] == ["b", "c"]
    cache.put("d", b"12345678901")
    assert len(cache) == 0, "it does not fit, and no other one does beside it"


@given(st.lists(st.tuples(st.sampled_from(["put", "get", "pop"]), st.integers(0, 6), st.integers(1, 5)), max_size=60))
def test_it_is_the_plain_rule(steps):
    cache = LruCache[int, int](9, lambda value: value)
    rule: OrderedDict[int, int] = OrderedDict()
    for step, key, value in steps:
        if step == "put":
            rule.pop(key, None)
            rule[key] = value
            cache.put(key, value)
            while sum(rule.values()) > 9:
                rule.popitem(last=False)
        elif step == "get":
            assert cache.get(key) == rule.get(key)
            if key in rule:
                rule.move_to_end(key)
        else:
            assert cache.pop(key) == rule.pop(key, None)
        assert len(cache) == len(rule)
        assert all(one in cache for one in rule)
