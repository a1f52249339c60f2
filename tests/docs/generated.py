"""The parts of the documentation that the code writes: `packaging/dev regen` puts them in their places.

In README.md and packaging/CONTRIBUTING.md they stand between `<!-- generated: NAME -->` and `<!-- end: NAME -->`;
packaging/xchronosd.toml is made as a whole. A test compares; nobody edits them by hand.
"""

import re
import textwrap
from collections.abc import Callable
from functools import partial
from pathlib import Path

from xchronos.config import describe_settings
from xchronos.model.lifecycle import diagram
from xchronos.model.reference import reference_markdown

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
CONTRIBUTING = ROOT / "packaging/CONTRIBUTING.md"
TOML = ROOT / "packaging/xchronosd.toml"


def settings_markdown() -> str:
    """The table of all settings."""
    lines = ["| setting | default | meaning |", "|---|---|---|"]
    for row in describe_settings():
        default = f"`{row.default}`" if row.default else ""
        lines.append(f"| `{row.name}` | {default} | {row.meaning.replace('|', chr(92) + '|')} |")
    return "\n".join(lines)


def settings_toml() -> str:
    """A file in which every setting stands with its default, commented out."""
    lines = [
        "# Settings of xchronosd: /etc/xchronos/xchronosd.toml (as another user: ~/.config/xchronos/xchronosd.toml).",
        "#",
        "# Every setting is shown with its default. Each can also be given in the environment (XCHRONOS_API_LISTEN) or",
        "# on the command line (--api-listen); both count more than this file. The command line counts most.",
    ]
    rows = describe_settings()
    tables = list(dict.fromkeys(row.name.rpartition(".")[0] for row in rows))
    for table in sorted(tables, key=lambda table: (table != "", tables.index(table))):
        if table:
            lines += ["", f"[{table}]"]
        for row in rows:
            if row.name.rpartition(".")[0] == table:
                lines += ["", *textwrap.wrap(row.meaning, 110, initial_indent="# ", subsequent_indent="# ")]
                lines.append(f"#{row.name.rpartition('.')[2]} = {_toml(row.default)}")
    return "\n".join(lines) + "\n"


def _toml(default: str) -> str:
    if re.fullmatch(r"true|false|[0-9]+", default):
        return default
    # A default that depends on who runs the daemon is told in words: the first is root's.
    return '"' + default.partition(", or ")[0] + '"'


def state_diagram(which: str) -> str:
    """A state table as a Mermaid diagram in a code fence."""
    return f"```mermaid\n{diagram(which)}\n```"  # type: ignore[arg-type]


PARTS: dict[Path, dict[str, Callable[[], str]]] = {
    README: {"reference": lambda: reference_markdown().strip(), "settings": settings_markdown},
    CONTRIBUTING: {
        "execution states": lambda: state_diagram("execution"),
        "attempt states": lambda: state_diagram("attempt"),
    },
}
"""By document, what makes each of its generated parts."""


def filled(document: Path, text: str) -> str:
    """A document's text with every generated part as the code writes it now.

    Raises:
        ValueError: it lacks the place of one.
    """
    for name, make in PARTS[document].items():
        begin, end = f"<!-- generated: {name} -->", f"<!-- end: {name} -->"
        before, found, rest = text.partition(begin)
        _, closed, after = rest.partition(end)
        if not found or not closed:
            raise ValueError(f"{document.name} has no {begin} ... {end}")
        text = f"{before}{begin}\n\n{make()}\n\n{end}{after}"
    return text


def outdated(root: Path = ROOT, *, write: bool = False) -> list[str]:
    """The files below `root` that are not as the code writes them now; with `write` they are, from now on.

    A test looks by this function, and `packaging/dev regen` writes by it: neither knows a file that the other does not.

    Raises:
        ValueError: a document lacks the place of a generated part.
    """
    found = []
    for path, make in FILES.items():
        file = root / path
        text = file.read_text(encoding="utf-8")
        wanted = make(text)
        if text != wanted:
            found.append(path)
            if write:
                file.write_text(wanted, encoding="utf-8")
    return found


FILES: dict[str, Callable[[str], str]] = {
    **{document.relative_to(ROOT).as_posix(): partial(filled, document) for document in PARTS},
    TOML.relative_to(ROOT).as_posix(): lambda _: settings_toml(),
}
"""Every file with something generated: what makes its text from the text that is there."""


if __name__ == "__main__":
    written = outdated(write=True)
    print("written:", *written) if written else print("everything generated is current")
