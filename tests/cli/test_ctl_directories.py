"""Units that come from a directory: files of it that are refused, and units that a file would bring back."""

from tests.api.api_helpers import HOURLY, at
from xchronos.model.records import RefusedFile


def test_a_file_that_is_refused(ctl, daemon):
    cluster = daemon.cluster
    problems = tuple(f"/u/b.service:{line}: what is this?" for line in range(1, 13))
    for unit in ("a.service", "b.service"):
        record = RefusedFile(f"/u/{unit}", problems, at(0))
        daemon.run(cluster.put(f"{cluster.registry.keys.refused}{unit}/m2", record))
    daemon.run(cluster.submit("b.service"))
    listed = ctl("list-units", "--no-legend").stdout.splitlines()
    assert [line.split()[:2] for line in listed] == [["a.service", "refused"], ["b.service", "scheduled"]]
    assert "a newer file is refused: /u/b.service:1: what is this?" in listed[1]
    new = ctl("status", "a")
    assert new.exit_code == 1
    assert "State: refused: its file is not taken in, so there is no such unit" in new.stdout
    assert "Loaded" not in new.stdout
    old = ctl("status", "b")
    assert old.exit_code == 1
    assert "Refused: a newer file is refused" in old.stdout
    assert "/u/b.service:10: what is this?" in old.stdout
    assert "and 2 more" in old.stdout
    assert "Trigger: TriggerCron" in old.stdout
    for unit, words in (
        ("a", "its file is refused: /u/a.service: /u/b.service:1:"),
        ("b", "a newer file is refused: "),
    ):
        told = ctl("explain", unit)
        assert (told.exit_code, words in told.stdout) == (1, True)
    assert ctl("explain", "b", "-o", "json").exit_code == 1


def test_destroy_what_a_file_would_bring_back(ctl, daemon):
    cluster = daemon.cluster
    where = {"source": "directory:/etc/units", "by": "intake@m7"}
    daemon.run(cluster.registry.submit("a.service", HOURLY, now=cluster.clock.now(), **where))
    refused = ctl("destroy", "a")
    assert (refused.exit_code, refused.stdout) == (1, "")
    assert "a.service comes from the file /etc/units/a.service on m7" in refused.stderr
    assert "--keep-file" in refused.stderr
    done = ctl("destroy", "--keep-file", "a")
    assert (done.exit_code, done.stdout) == (0, "a.service: destroyed\n")
    assert done.stderr.startswith("the file /etc/units/a.service on m7 is still there: it brings a.service back")
