"""How large a unit file may be, and how much is told of what is wrong with one.

A unit comes from a directory or a client that nobody knows, and each byte of it costs time and memory of everybody's
scheduler. Text is measured before it is read, and what is told of it is cut before anybody has to carry it.
"""

from collections.abc import Iterable, Sequence

import msgspec

from xchronos.errors import Problem, UnitFileError
from xchronos.limits import (
    DROP_INS,
    PATH_CHARACTERS,
    PROBLEM_CHARACTERS,
    PROBLEMS_TOLD,
    UNIT_BYTES,
    UNIT_LINES,
    WHOLE_UNIT_BYTES,
)

ELSEWHERE = "have its steps fetch what is long (Artifact=, an image, a volume)"
"""What to do about a unit that is too large."""


def check_size(files: Sequence[tuple[str, bytes | str]]) -> None:
    """Refuse a unit whose text is too large.

    Args:
        files: What problems call the unit file, and its text; then the same of each drop-in.

    Raises:
        UnitFileError: with every file that is too large.
    """
    main = _cut(files[0][0], PATH_CHARACTERS)
    problems: list[Problem] = []
    if len(files) - 1 > DROP_INS:
        problems.append(Problem(f"the unit has {len(files) - 1} drop-ins: {DROP_INS} are the most", main))
    whole = 0
    for path, text in files:
        data = text if isinstance(text, bytes) else text.encode("utf-8", "surrogatepass")
        whole += len(data)
        lines = data.count(b"\n") + (not data.endswith(b"\n"))
        if len(path) > PATH_CHARACTERS:
            message = f"the file's name has {len(path)} characters: {PATH_CHARACTERS} are the most"
            problems.append(Problem(message, _cut(path, PATH_CHARACTERS)))
        elif len(data) > UNIT_BYTES:
            message = f"the file has {len(data)} bytes: a unit file has at most {UNIT_BYTES}; {ELSEWHERE}"
            problems.append(Problem(message, path))
        elif lines > UNIT_LINES:
            message = f"the file has {lines} lines: a unit file has at most {UNIT_LINES}; {ELSEWHERE}"
            problems.append(Problem(message, path, UNIT_LINES + 1))
    if not problems and whole > WHOLE_UNIT_BYTES:
        message = f"the unit has {whole} bytes with its drop-ins: {WHOLE_UNIT_BYTES} are the most; {ELSEWHERE}"
        problems.append(Problem(message, main))
    if problems:
        raise UnitFileError(told(problems))


def told(problems: Iterable[Problem]) -> tuple[Problem, ...]:
    """The problems as they are told: the first PROBLEMS_TOLD of them, errors before warnings, in the order given.

    Those that are left are counted in one more problem. It is an error if one of them is. Long messages are cut.
    """
    found = tuple(problems)
    if len(found) > PROBLEMS_TOLD:
        errors = [problem for problem in found if problem.severity == "error"]
        rest = max(0, len(errors) - PROBLEMS_TOLD)
        room = max(0, PROBLEMS_TOLD - len(errors))
        chosen: list[Problem] = []
        kept = {"error": PROBLEMS_TOLD, "warning": room}
        for problem in found:
            if kept[problem.severity]:
                kept[problem.severity] -= 1
                chosen.append(problem)
        left = len(found) - len(chosen)
        message = f"and {left} more: {_number(rest, 'error')} and {_number(left - rest, 'warning')}"
        found = (*chosen, Problem(message, found[0].file, severity="error" if rest else "warning"))
    return tuple(_shortened(problem) if _is_long(problem) else problem for problem in found)


def _number(count: int, what: str) -> str:
    return f"{count} {what}{'' if count == 1 else 's'}"


def _is_long(problem: Problem) -> bool:
    return max(len(problem.message), len(problem.section), len(problem.key)) > PROBLEM_CHARACTERS


def _shortened(problem: Problem) -> Problem:
    return msgspec.structs.replace(
        problem,
        message=_cut(problem.message, PROBLEM_CHARACTERS),
        section=_cut(problem.section, PROBLEM_CHARACTERS),
        key=_cut(problem.key, PROBLEM_CHARACTERS),
    )


def _cut(text: str, most: int) -> str:
    return text if len(text) <= most else f"{text[: most - 3]}..."
