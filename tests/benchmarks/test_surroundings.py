"""What is told above the table, and when the peer is left out of it."""

import pytest

from tests.benchmarks import peer, surroundings


@pytest.mark.parametrize(
    ("configured", "told"),
    [
        ("'--enable-optimizations' '--with-lto'", "built with PGO, LTO"),
        ("'--prefix=/opt' '--enable-optimizations'", "built with PGO"),
        ("'--prefix=/opt'", "built without optimisations"),
        ("", "built without optimisations"),
    ],
)
def test_the_build_of_the_interpreter_is_told(configured, told):
    assert f" {told} (" in surroundings.interpreter(configured)


def test_one_line_has_interpreter_etcd_and_load(monkeypatch):
    monkeypatch.setattr(surroundings.etcd, "program", lambda _: None)
    monkeypatch.setattr(surroundings.os, "getloadavg", lambda: (0.5, 1.25, 2.0))
    parts = surroundings.told().split("; ")
    assert "Python 3." in parts[0]
    assert parts[1] == "xchronos in plain Python"
    assert (parts[2], parts[-1]) == ("etcd none", "load 0.50 1.25 2.00")


def test_the_peer_is_left_out_with_the_reason(monkeypatch, tmp_path):
    monkeypatch.delenv(peer.VARIABLE, raising=False)
    assert peer.missing() == "XCHRONOS_GO_ETCD_CRON names no source tree of go-etcd-cron"
    monkeypatch.setenv(peer.VARIABLE, str(tmp_path))
    assert peer.missing() == f"XCHRONOS_GO_ETCD_CRON is {tmp_path}, and there is no go.mod"
    (tmp_path / "go.mod").write_text("module github.com/diagridio/go-etcd-cron\n")
    monkeypatch.setattr(peer.shutil, "which", lambda _: None)
    assert peer.missing() == "there is no Go to build go-etcd-cron with"
    monkeypatch.setattr(peer.shutil, "which", lambda name: f"/usr/bin/{name}")
    assert peer.missing() == ""
