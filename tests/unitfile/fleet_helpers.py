"""[X-Fleet] as options, what is asked by them, and what is said of them."""

from xchronos.unitfile.document import Option
from xchronos.unitfile.fleet.requirements import (
    requirements,
)


def options(*pairs):
    return [Option("X-Fleet", key, value, line, "u.service") for line, (key, value) in enumerate(pairs, 2)]


def asking(*pairs, name="u.service"):
    asked, problems = requirements(name, options(*pairs))
    assert problems == []
    return asked


def said(*pairs, name="u.service"):
    return [str(problem) for problem in requirements(name, options(*pairs))[1]]
