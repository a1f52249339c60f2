"""What people see of a URL."""

import pytest

from xchronos.urls import shown


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("https://h/a/b.tar", "https://h/a/b.tar"),
        ("https://h:8443/@scope/pkg.tgz", "https://h:8443/@scope/pkg.tgz"),
        ("https://me:pass@h:8443/a", "https://...@h:8443/a"),
        ("https://token@h/a", "https://...@h/a"),
        ("https://@h/a", "https://@h/a"),
        ("https://me:p@ss@h/a", "https://...@h/a"),
        ("https://me:p/ss@h/a", "https://...@h/a"),
        ("https://h/a?X-Amz-Signature=abc&n=1&flag;x=2", "https://h/a?X-Amz-Signature=...&n=...&...;x=..."),
        ("https://h/a?s3cret#frag", "https://h/a?...#..."),
        ("etcd://a:1,b:2,[::1]:3", "etcd://a:1,b:2,[::1]:3"),
        ("postgres://me:pass@db/x", "postgres://...@db/x"),
        ("cannot get 'http://me:pass@h/x?k=v': no", "cannot get 'http://...@h/x?k=...': no"),
        ("unix:///run/docker.sock and file:///a%20b", "unix:///run/docker.sock and file:///a%20b"),
        ("no URL: me:pass@h/x?k=v", "no URL: me:pass@h/x?k=v"),
        ("http://[bad", "http://[bad"),
        ("", ""),
    ],
)
def test_what_people_see(text: str, expected: str) -> None:
    assert shown(text) == expected
