"""Warnings about commands and containers that depend on more than one assignment, or on the version of systemd."""

import pytest

from tests.model.compile_helpers import service, warnings
from xchronos.errors import UnitFileError
from xchronos.model.compile.unit import compile_unit


def test_an_argv0_of_its_own_has_no_effect_in_a_container():
    told = warnings(service("ExecStart=@/bin/sh own -c true", "[Container]\nImage=i"))
    assert any("the prefix '@' has no effect in a container" in warning for warning in told)


@pytest.mark.parametrize(
    ("command", "told"), [("|echo", True), ("-|echo", True), ("/bin/sh -c 'a | b'", False), ("/bin/echo a|b", False)]
)
def test_the_shell_prefix_is_told_of_where_systemd_does_not_know_it(command, told):
    text = f"[Service]\nExecStart={command}\n"
    words = "the prefix '|' is known from systemd"
    assert any(words in str(one) for one in compile_unit("a.service", text, systemd=252).warnings) is told
    assert not any(words in str(one) for one in compile_unit("a.service", text).warnings)


def test_what_does_not_parse_is_told_once_whatever_the_version():
    text = "[Service]\nExecStart=/bin/true\nExecStop=|/bin/sh -c 'a\n"
    with pytest.raises(UnitFileError) as caught:
        compile_unit("a.service", text, systemd=252)
    assert [problem.key for problem in caught.value.problems] == ["ExecStop"]


def test_what_an_engine_refuses_is_told_of_docker_lines_unless_a_variable_may_mend_it():
    sure = "docker run --rm --memory 4m busybox"
    assert any("6 MB" in warning for warning in warnings(service(f"ExecStart={sure}")))
    # With another value of the variable the line does not even compile: nobody can tell.
    unsure = "docker run --rm --memory 4m -p ${PORTS}:80 busybox"
    assert not any("6 MB" in warning for warning in warnings(service(f"ExecStart={unsure}")))
