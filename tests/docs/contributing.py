"""What packaging/CONTRIBUTING.md names, and what there is of that.

A module is named from `xchronos/` on, any other file from the root. What is in a module stands after a colon:
`scheduler/fire.py:fire`, `engine/committer.py:Committer.submit`.
"""

import ast
import re
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from tests.docs.generated import CONTRIBUTING, ROOT

TEXT = CONTRIBUTING.read_text(encoding="utf-8")
PACKAGE = ROOT / "xchronos"

_NAME = re.compile(r"(?!/)[\w.@/-]*(?:/[\w.@-]*|\.(?:py|md|toml|yaml|json))(?::[\w.]+)?")


def section(title: str) -> str:
    """What stands under a heading, up to the next heading of its level or above."""
    found = re.search(rf"^(#+) {re.escape(title)}\n(.*?)(?=^#{{2,}} |\Z)", TEXT, re.MULTILINE | re.DOTALL)
    assert found, title
    level, rest = found[1], TEXT[found.start(2) :]
    return re.split(rf"^#{{2,{len(level)}}} ", rest, maxsplit=1, flags=re.MULTILINE)[0]


def spans(text: str = TEXT) -> list[str]:
    """What stands between backticks, code blocks aside."""
    return re.findall(r"`([^`\n]+)`", re.sub(r"^```.*?^```", "", text, flags=re.DOTALL | re.MULTILINE))


def names(text: str = TEXT) -> list[str]:
    """The files, directories and places that a text names, the programs with arguments among them."""
    return [word for span in spans(text) for word in span.split() if _NAME.fullmatch(word)]


def rows(text: str) -> list[list[str]]:
    """The cells of every row of a text's tables, but for the headings."""
    lines = [line for line in text.splitlines() if line.startswith("| ")]
    cells = [[cell.strip() for cell in re.split(r"(?<!\\)\|", line)[1:-1]] for line in lines]
    rulers = [index for index, line in enumerate(text.splitlines()) if line.startswith("|---")]
    headings = {text.splitlines()[index - 1] for index in rulers}
    return [row for line, row in zip(lines, cells, strict=True) if line not in headings]


def blocks(kind: str, text: str = TEXT) -> list[str]:
    """The code blocks of a kind."""
    return re.findall(rf"^```{kind}\n(.*?)^```", text, re.MULTILINE | re.DOTALL)


def file_of(name: str) -> Path | None:
    """The file or directory that is named; None when there is none."""
    path = name.partition(":")[0]
    return next((base / path for base in (PACKAGE, ROOT) if (base / path).exists()), None)


def is_there(name: str) -> bool:
    """Whether the file is there, and in it what is named after the colon."""
    path, what = file_of(name), name.partition(":")[2]
    return path is not None and (not what or what in _defined(path))


@cache
def _defined(path: Path) -> frozenset[str]:
    """Every class, function and variable of a module, those of classes with the class's name in front."""
    return frozenset(_names_in(ast.parse(path.read_text(encoding="utf-8")), ""))


def _names_in(node: ast.Module | ast.ClassDef, before: str) -> Iterator[str]:
    for inner in node.body:
        match inner:
            case ast.ClassDef(name=name):
                yield before + name
                yield from _names_in(inner, f"{before}{name}.")
            case ast.FunctionDef(name=name) | ast.AsyncFunctionDef(name=name):
                yield before + name
            case ast.AnnAssign(target=ast.Name(id=name)):
                yield before + name
            case ast.Assign(targets=targets):
                for target in targets:
                    parts = target.elts if isinstance(target, ast.Tuple) else [target]
                    yield from (before + part.id for part in parts if isinstance(part, ast.Name))
