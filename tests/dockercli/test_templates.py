"""Templates of `--format`: what the docker client 28.2.2 printed for a container that was created with
`-l a=b -l "c=d e" --entrypoint /bin/sh busybox -c 'echo x'`."""

from contextlib import suppress

import pytest
from hypothesis import given
from hypothesis import strategies as st

from xchronos.dockercli import Inspect, Query, compile_docker
from xchronos.dockercli.templates import parse_template, render
from xchronos.errors import InvalidValue

CONTAINER = {
    "Id": "a0106323", "Name": "/keys-t",
    "State": {"Running": False, "ExitCode": 0, "Status": "created"},
    "Config": {"Image": "busybox", "Cmd": ["-c", "echo x"], "Labels": {"c": "d e", "a": "b"}, "OnBuild": None},
    "Mounts": [], "NetworkSettings": {"Networks": {"bridge": {"IPAddress": "1.2.3.4"}, "a": {"IPAddress": ""}}},
}  # fmt: skip


@pytest.mark.parametrize(
    ("template", "printed"),
    [
        ("{{.State.Running}}", "false"),
        ("{{.State.ExitCode}} {{.Config.Image}}", "0 busybox"),
        ("{{ json .Config.Labels }}", '{"c":"d e","a":"b"}'),
        ("{{json .Config.Cmd}}", '["-c","echo x"]'),
        ("{{.Config.Cmd}}", "[-c echo x]"),
        ("{{.Config.Labels}}", "map[a:b c:d e]"),
        ('{{index .Config.Labels "a"}}', "b"),
        ("{{index .Config.Labels `zz`}}|", "|"),
        ("{{index .Config.Cmd 1}}", "echo x"),
        ("{{len .Config.Cmd}}", "2"),
        ("{{len .Id}}", "8"),
        ("{{range .Config.Cmd}}<{{.}}>{{end}}", "<-c><echo x>"),
        ("{{if .State.Running}}up{{else}}down{{end}}", "down"),
        ("{{if .Name}}up{{end}}", "up"),
        ("{{range .Mounts}}x{{else}}none{{end}}", "none"),
        ("{{range .Mounts}}x{{end}}", ""),
        ("{{println .Name .State.ExitCode}}", "/keys-t 0\n"),
        ('{{print .Name " " .Config.Image}}', "/keys-t busybox"),
        ("{{print .State.ExitCode .State.Running .Name}}", "0 false/keys-t"),
        ('a {{- " b" -}} c', "a bc"),
        ("x  {{- .Name -}}  y", "x/keys-ty"),
        ("{{range .NetworkSettings.Networks}}{{.IPAddress}};{{end}}", ";1.2.3.4;"),
        ('{{join .Config.Cmd ","}}', "-c,echo x"),
        ("{{upper .Name}}{{lower .Name}}", "/KEYS-T/keys-t"),
        ("{{/* c */}}z", "z"),
        ("{{.Config.OnBuild}}", "<no value>"),
        ("no action", "no action"),
    ],
)
def test_what_is_printed(template, printed):
    assert render(parse_template(template), CONTAINER) == printed


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Nope}}", "no field 'Nope' in the engine's answer at .Nope"),
        ("{{.State.Nope.X}}", "no field 'Nope' in the engine's answer at .State.Nope.X"),
        ("{{range .Name}}x{{end}}", "range can't iterate over /keys-t"),
        ("{{index .Config.Cmd 9}}", "index 9 is out of range"),
        ("{{len .State.ExitCode}}", "len of 0"),
        ("{{join .Name `,`}}", "join of /keys-t"),
    ],
)
def test_what_the_client_fails_at(template, message):
    with pytest.raises(InvalidValue, match=message):
        render(parse_template(template), CONTAINER)


@pytest.mark.parametrize(
    ("template", "message"),
    [
        ("{{.Name", "an action is not closed"),
        ("{{end}}", "without a block"),
        ("{{else}}", "without a block"),
        ("{{if .Name}}x", "is not closed"),
        ("{{if .Name}}x{{else}}y{{else}}z{{end}}", "is not closed"),
        ("{{range $k, $v := .Config.Labels}}{{end}}", "are read here"),
        ("{{if eq .State.Running true}}y{{end}}", "are read here"),
        ("{{.Id | len}}", "are read here"),
        ("{{$x}}", "are read here"),
        ("{{table .Id}}", "are read here"),
        ("{{json}}", "are read here"),
        ("{{}}", "are read here"),
        ('{{"x}}', "are read here"),
        ("{{if .A}}" * 20, "blocks within blocks"),
    ],
)
def test_refused(template, message):
    with pytest.raises(InvalidValue, match=message):
        compile_docker(["docker", "inspect", "--format", template, "x"])


def test_lines():
    line = compile_docker(["docker", "inspect", "-f", "{{.Id}}", "x"])
    assert line == Inspect(names=("x",), template="{{.Id}}")
    assert compile_docker(["docker", "info", "--format=json"]) == Query(path="/info", template="json")
    with pytest.raises(InvalidValue, match="templates of listings are not evaluated here"):
        compile_docker(["docker", "ps", "--format", "{{.Names}}"])


@given(st.text(alphabet='{}.-ab "`0\n', max_size=40))
def test_any_text_is_read_or_refused(text):
    with suppress(InvalidValue):
        assert isinstance(render(parse_template(text), {"a": [{"b": 1}], "b": {"a": "x"}}), str)
