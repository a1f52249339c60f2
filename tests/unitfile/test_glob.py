"""Globs as Go matches them."""

import fnmatch

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.unitfile.glob import glob_is_valid, glob_matches


@pytest.mark.parametrize(
    ("pattern", "name", "expected"),
    [
        # The table of Go's own path.Match test.
        ("abc", "abc", True),
        ("*", "abc", True),
        ("*c", "abc", True),
        ("a*", "a", True),
        ("a*", "abc", True),
        ("a*", "ab/c", False),
        ("a*/b", "abc/b", True),
        ("a*/b", "a/c/b", False),
        ("a*b*c*d*e*/f", "axbxcxdxe/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/f", True),
        ("a*b*c*d*e*/f", "axbxcxdxe/xxx/f", False),
        ("a*b*c*d*e*/f", "axbxcxdxexxx/fff", False),
        ("a*b?c*x", "abxbbxdbxebxczzx", True),
        ("a*b?c*x", "abxbbxdbxebxczzy", False),
        ("ab[c]", "abc", True),
        ("ab[b-d]", "abc", True),
        ("ab[e-g]", "abc", False),
        ("ab[^c]", "abc", False),
        ("ab[^b-d]", "abc", False),
        ("ab[^e-g]", "abc", True),
        ("a\\*b", "a*b", True),
        ("a\\*b", "ab", False),
        ("a?b", "a☺b", True),
        ("a[^a]b", "a☺b", True),
        ("a???b", "a☺b", False),
        ("a[^a][^a][^a]b", "a☺b", False),
        ("[a-ζ]*", "\u03b1", True),
        ("*[a-ζ]", "A", False),
        ("a?b", "a/b", False),
        ("a*b", "a/b", False),
        ("[\\]a]", "]", True),
        ("[\\-]", "-", True),
        ("[x\\-]", "x", True),
        ("[x\\-]", "-", True),
        ("[x\\-]", "z", False),
        ("[\\-x]", "x", True),
        ("[]a]", "]", False),
        ("[-]", "-", False),
        ("[x-]", "x", False),
        ("[-x]", "x", False),
        ("\\", "a", False),
        ("[a-b-c]", "a", False),
        ("[", "a", False),
        ("[^", "a", False),
        ("[^bc", "a", False),
        ("a[", "a", False),
        ("a[", "ab", False),
        ("*x", "xxx", True),
        ("", "", True),
        ("", "a", False),
        ("a", "", False),
        ("**", "abc", True),
        ("[a", "[a", False),
        ("a]", "a]", True),
        ("[[*]x", "*x", True),
        ("*a", "b/a", False),
    ],
)
def test_glob_as_go_matches(pattern, name, expected):
    assert glob_matches(pattern, name) is expected


def test_malformed_globs_are_known():
    assert [glob_is_valid(pattern) for pattern in ("a*", "[a-z]", "[", "a\\", "[]")] == [
        True,
        True,
        False,
        False,
        False,
    ]


@given(st.text("ab*?", max_size=8), st.text("ab", max_size=8))
def test_glob_agrees_with_the_shell_where_there_is_no_slash(pattern, name):
    assert glob_matches(pattern, name) == fnmatch.fnmatchcase(name, pattern)
