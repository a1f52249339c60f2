"""Every bad file is refused at its line with words that help; nothing crashes, nothing is stored."""

from pathlib import Path

import pytest

from tests.data.bad_units import BAD_UNITS


@pytest.mark.parametrize(("name", "text", "fragment", "line"), BAD_UNITS, ids=[name for name, *_ in BAD_UNITS])
def test_refused_with_its_line(ctl, tmp_path: Path, name, text, fragment, line):
    path = tmp_path / name
    path.write_bytes(text)
    result = ctl("verify", str(path))
    assert result.exit_code == 1, result.output
    place = f"{path}:{line}: " if line else f"{path}: "
    errors = [told for told in result.stderr.splitlines() if "warning: " not in told]
    assert any(told.startswith(place) and fragment in told for told in errors), result.stderr[:2000]
    assert "Traceback" not in result.output


def test_submitting_them_all_prints_every_problem_and_stores_only_the_good_one(ctl, daemon, tmp_path: Path):
    for name, text, _, _ in BAD_UNITS:
        (tmp_path / name).write_bytes(text)
    (tmp_path / "good.service").write_bytes(b"[Service]\nExecStart=/bin/true\n")
    result = ctl("submit", str(tmp_path))
    assert result.exit_code == 1, result.stderr[-600:]
    # A file without a unit's suffix is none of a directory's units.
    for name, _, fragment, line in BAD_UNITS:
        if name.endswith(".service"):
            place = f"{tmp_path / name}:{line}: " if line else f"{tmp_path / name}: "
            assert any(told.startswith(place) and fragment in told for told in result.stderr.splitlines()), name
    assert result.stdout.startswith("good.service: created")
    assert [unit.name for unit in daemon.run(_units(daemon))] == ["good.service"]


async def _units(daemon):
    return [unit async for unit in daemon.cluster.registry.units()]


def test_an_empty_file_is_a_masked_unit(ctl, tmp_path: Path):
    path = tmp_path / "masked.service"
    path.touch()
    result = ctl("verify", str(path))
    assert (result.exit_code, result.stdout) == (0, f"{path}: ok (1 warning)\n")
    assert result.stderr.startswith(f"{path}: warning: the file is empty: the unit is masked")


def test_there_are_enough_of_them():
    assert len(BAD_UNITS) >= 50


def test_files_of_podmans_are_passed_over_with_what_does_their_work(ctl, daemon, tmp_path: Path):
    for name in ("app.container", "data.volume", "a.service"):
        (tmp_path / name).write_bytes(b"[Service]\nExecStart=/bin/true\n")
    for command in ("verify", "submit"):
        result = ctl(command, str(tmp_path))
        assert result.exit_code == 0, result.stderr
        assert f"{tmp_path}/app.container: warning: passed over: call it app.service" in result.stderr
        assert f"{tmp_path}/data.volume: warning: passed over: Volume=NAME:/path makes the volume" in result.stderr
    assert [unit.name for unit in daemon.run(_units(daemon))] == ["a.service"]
    # One that is named is refused: the person wants it to run.
    assert ctl("submit", str(tmp_path / "app.container")).exit_code == 1
