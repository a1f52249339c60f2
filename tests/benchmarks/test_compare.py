"""Two checkouts compared: which rows belong together, what their ratios come to, and who runs when."""

import math
from pathlib import Path

import pytest

from tests.benchmarks import __main__
from tests.benchmarks.alone import refuse_strangers
from tests.benchmarks.compare import Comparison, Key, by_key, compare, in_turns, rows_of
from tests.benchmarks.rows import Row

ROWS = """
import dataclasses
import xchronos

@dataclasses.dataclass
class Row:
    name: str
    value: float
    unit: str = "us"
    reference: str = ""
    ratio: float | None = None

def run(value=xchronos.VALUE):
    with open({log!r}, "a") as log:
        log.write(xchronos.NAME + " ")
    print("something else")
    return [Row("a thing", value)]

TINY = {{"value": 1.0}}
"""


def only(comparisons: list[Comparison]) -> Comparison:
    (found,) = comparisons
    return found


def checkout(place: Path, name: str, value: float) -> Path:
    """A checkout of a program whose benchmark `thing` takes so long."""
    root = place / name
    (root / "xchronos").mkdir(parents=True)
    (root / "xchronos/__init__.py").write_text(f"NAME, VALUE = {name!r}, {value}\n")
    (root / "tests/benchmarks").mkdir(parents=True)
    (root / "tests/benchmarks/bench_thing.py").write_text(ROWS.format(log=str(place / "log")))
    return root


# -- pairs -------------------------------------------------------------------------------------------------------------


def test_rows_are_paired_by_what_they_tell_wherever_they_stand():
    here = [Row("fire", 10, "us"), Row("memory", 4, "MB")]
    there = [Row("memory", 8, "MB"), Row("fire", 5, "us")]
    assert [(each.key.name, each.ratio) for each in compare([(here, there)])] == [("fire", 2.0), ("memory", 0.5)]


def test_the_same_belongs_to_the_name_before_it():
    rows = [
        Row("few units", 1, "us"),
        Row("the same, CPU", 2, "us"),
        Row("many units", 3),
        Row("the same, CPU", 4, "us"),
    ]
    assert {key.name: row.value for key, row in by_key(rows).items()} == {
        "few units": 1, "few units, CPU": 2, "many units": 3, "many units, CPU": 4,
    }  # fmt: skip


def test_references_and_units_tell_rows_of_one_name_apart():
    rows = [Row("step", 1, "ms", reference="bare"), Row("step", 1, "ms", reference="client"), Row("step", 1, "us")]
    assert list(by_key(rows)) == [Key("step", "ms", "bare"), Key("step", "ms", "client"), Key("step", "us", "")]


def test_two_rows_that_tell_the_same_are_an_error():
    with pytest.raises(ValueError, match="'step'"):
        by_key([Row("step", 1), Row("step", 2)])


def test_what_only_one_side_has_is_told_without_a_ratio():
    new, old = compare([([Row("new", 1)], [Row("old", 2)])])
    assert (new.here, new.there, new.ratio) == (1, None, None)
    assert (old.here, old.there, old.ratio) == (None, 2, None)
    assert new.cells() == ("new", "1.00", "none", "", "", "", "")
    assert old.cells() == ("old", "none", "2.00", "", "", "", "")


# -- ratios ------------------------------------------------------------------------------------------------------------


def test_the_ratio_is_the_median_of_the_pairs_and_not_that_of_the_medians():
    # The machine is ten times as slow during the third pair: the medians' ratio is 1, and says nothing.
    pairs = [(2, 1), (20, 10), (10, 20)]
    found = only(compare([([Row("it", here)], [Row("it", there)]) for here, there in pairs]))
    assert (found.here, found.there) == (10, 10)
    assert found.ratio == 2.0
    assert found.cells()[3:5] == ("2.00", "0.500 to 2.00")


def test_of_an_even_number_the_middle_two_count():
    found = only(compare([([Row("it", here)], [Row("it", 1)]) for here in (1, 2, 3, 10)]))
    assert found.ratio == 2.5


def test_what_is_beside_a_reference_is_compared_as_well():
    here, there = Row("it", 30, reference="bare", ratio=1.5), Row("it", 10, reference="bare", ratio=1.0)
    found = only(compare([([here], [there])]))
    assert (found.ratio, found.beside) == (3.0, (1.5,))
    assert found.cells()[5:] == ("bare", "1.50")


def test_nothing_beside_nothing_is_no_change():
    assert only(compare([([Row("it", 0)], [Row("it", 0)])])).ratio == 1.0
    assert only(compare([([Row("it", 3)], [Row("it", 0)])])).ratio == math.inf


# -- runs --------------------------------------------------------------------------------------------------------------


def test_the_checkouts_take_turns_each_with_its_own_code(tmp_path):
    here, there = checkout(tmp_path, "new", 3.0), checkout(tmp_path, "old", 4.0)
    found = only(in_turns(here, there, "thing", 2))
    assert (found.here, found.there, found.ratios) == (3.0, 4.0, (0.75, 0.75))
    assert (tmp_path / "log").read_text().split() == ["new", "old", "new", "old"]


def test_the_tiny_size_is_that_of_each_checkout(tmp_path):
    here, there = checkout(tmp_path, "new", 3.0), checkout(tmp_path, "old", 4.0)
    benchmark = there / "tests/benchmarks/bench_thing.py"
    benchmark.write_text(benchmark.read_text() + 'TINY = {"value": 2.0}\n')
    found = only(in_turns(here, there, "thing", 1, tiny=True))
    assert (found.here, found.there) == (1.0, 2.0)


def test_a_run_that_breaks_is_told_with_its_reason(tmp_path, capsys, monkeypatch):
    here, there = checkout(tmp_path, "new", 3.0), checkout(tmp_path, "old", 4.0)
    (there / "tests/benchmarks/bench_thing.py").write_text("def run(): return 1 / 0\n")
    monkeypatch.setattr(__main__, "ROOT", here)
    monkeypatch.setattr(__main__, "NAMES", ["thing"])
    assert __main__.main(["--pairs", "1", "--against", str(there)]) == 1
    assert "BROKEN thing: RuntimeError: ZeroDivisionError: division by zero" in capsys.readouterr().err


def test_the_command_prints_the_comparison(tmp_path, capsys, monkeypatch):
    here, there = checkout(tmp_path, "new", 3.0), checkout(tmp_path, "old", 4.0)
    monkeypatch.setattr(__main__, "ROOT", here)
    monkeypatch.setattr(__main__, "NAMES", ["thing"])
    assert __main__.main(["thing", "--pairs", "2", "--against", str(there)]) == 0
    row = capsys.readouterr().out.splitlines()[-1]
    assert " ".join(row.split()) == "a thing 3.00 us 4.00 us 0.750 0.750 to 0.750"
    assert (tmp_path / "log").read_text().split() == ["new", "old"] * 2


def test_a_benchmark_that_a_checkout_has_not_is_not_taken_from_another(tmp_path):
    there = checkout(tmp_path, "old", 4.0)
    (there / "tests/benchmarks/bench_thing.py").unlink()
    with pytest.raises(RuntimeError, match=r"ModuleNotFoundError: No module named 'tests\.benchmarks\.bench_thing'"):
        rows_of(there, "thing")


def test_code_of_another_checkout_is_refused(tmp_path):
    refuse_strangers(__main__.ROOT)
    with pytest.raises(ImportError, match=f"is not in {tmp_path}, but there is {__main__.ROOT}"):
        refuse_strangers(tmp_path)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (["--against", "/nowhere"], "has no tests/benchmarks"),
        (["--pairs", "0"], "at least 1"),
        (["nothing"], "no benchmark is called 'nothing'"),
    ],
)
def test_what_cannot_be_compared_is_refused(arguments, complaint, capsys):
    with pytest.raises(SystemExit):
        __main__.main(arguments)
    assert complaint in capsys.readouterr().err
