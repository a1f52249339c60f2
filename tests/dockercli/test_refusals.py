"""What an engine refuses at create. `tests/executors/test_docker_refusals.py` asks a real one about the same lines."""

import pytest

from xchronos.dockercli import Create, compile_docker
from xchronos.dockercli.refusals import SEEN_ON, refusals
from xchronos.errors import UnitFileError
from xchronos.model.compile.unit import compile_unit

REFUSED = {
    "-m 5m": "less than 6 MB of memory",
    "--memory-reservation 5m": "a reservation of less than 6 MB",
    "--memory-swap 8m": "a limit of memory and swap without one of memory",
    "-m 8m --memory-swap 7m": "memory and swap together are less than the memory alone",
    "-m 7m --memory-reservation 8m": "more memory is reserved than there may be",
    "--cpus 1 --cpu-quota 5000": "--cpus and --cpu-quota together",
    "--cpus 1 --cpu-period 5000": "--cpus and --cpu-period together",
    "--cpus -1": "a negative number of CPUs",
    "--cpu-period 10": "a period that is not from 1,000 to 1,000,000 microseconds",
    "--cpu-period 2000000": "a period that is not from 1,000 to 1,000,000 microseconds",
    "--cpu-quota 10": "a quota of less than 1,000 microseconds",
    "--cpuset-cpus x": "'x' is no list of numbers and ranges",
    "--cpuset-cpus 1-0": "'1-0' is no list of numbers and ranges",
    "--cpuset-mems x": "'x' is no list of numbers and ranges",
    "--oom-score-adj 1001": "a score that is not from -1000 to 1000",
    "--oom-score-adj -1001": "a score that is not from -1000 to 1000",
    "--restart foo": "'foo' is no restart policy",
    "--restart always:3": "a number of retries for the policy 'always'",
    "--restart no:1": "a number of retries for the policy 'no'",
    "--restart on-failure:-1": "a negative number of retries",
    "-w rel": "the working directory 'rel' is not absolute",
    "-w .": "the working directory '.' is not absolute",
    "--cap-add FOO": "'FOO' is no capability",
    "--cap-add CAP_ALL": "'CAP_ALL' is no capability",
    "--cap-drop foo": "'foo' is no capability",
    "--stop-signal FOO": "'FOO' is no signal",
    "--stop-signal 0": "'0' is no signal",
    "--security-opt foo=bar": "'foo=bar' is no security option",
    "--isolation foo": "the isolation 'foo', which is Windows' alone",
    "--entrypoint= ": "neither an entry point nor a command",
    "--health-cmd x --health-interval 10us": "a time of less than a millisecond",
    "--health-cmd x --health-timeout 10us": "a time of less than a millisecond",
    "--health-cmd x --health-start-period 10us": "a time of less than a millisecond",
    "--log-opt foo=bar": "the log driver json-file has no option 'foo'",
    "--log-driver json-file --log-opt foo=bar": "the log driver json-file has no option 'foo'",
    "-v /a:bb": "'bb' is not an absolute path in the container",
    "-v /a:/": "a mount at /, the root directory",
    "-v /a:/b:zz": "'zz' is no mode, or contradicts itself: /a:/b:zz",
    "-v /a:/b:ro,rw": "'ro,rw' is no mode, or contradicts itself",
    "-v /a:/b:ro,z,Z": "'ro,z,Z' is no mode, or contradicts itself",
    "-v /a:/b:nocopy": "nocopy for a path of the machine",
    "-v vol:/a:rshared": "a propagation for a volume",
    "-v a/b:/c": "'a/b' is neither an absolute path nor the name of a volume",
    "-v /a:/b -v /c:/b": "two mounts at /b",
    "-v /x:/a --tmpfs /a": "two mounts at /a",
    "--tmpfs run": "'run' is not an absolute path in the container",
    "--tmpfs /": "a mount at /, the root directory",
    "--mount type=bind,dst=/x": "a bind without a source",
    "--mount type=bind,src=x,dst=/x": "the source x",
    "--mount type=bind,src=/tmp,dst=xx": "'xx' is not an absolute path in the container",
    "--mount type=tmpfs,src=/a,dst=/x": "a source for a mount in memory",
    "--mount type=volume,src=a/b,dst=/x": "'a/b' is not the name of a volume",
    "--mount type=volume,src=x,dst=/a": "'x' is not the name of a volume",
    "--mount type=volume,dst=/": "a mount at /, the root directory",
    "--mount type=foo,dst=/x": "'foo' is no type of mount",
    "--mount type=bind,src=/tmp,dst=/a,bind-propagation=foo": "'foo' is no propagation",
    "--volumes-from nosuch:zz": "'zz' is no mode, or contradicts itself: nosuch:zz",
    "--network container:x -p 80:80": "published ports in the network of another container",
    "--network container:x --expose 80": "exposed ports in the network of another container",
    "--network container:x --hostname h": "a host name in the network of another container",
    "--network container:x --dns 1.1.1.1": "name servers in the network of another container",
    "--network container:x --add-host a:1.1.1.1": "more hosts in the network of another container",
    "--uts host --hostname h": "a host name with --uts host",
}
"""Lines that Docker 20.10.24 refused, and what is said about them."""

TAKEN = (
    "-m 7m", "-m 7m --memory-swap 7m", "-m 7m --memory-swap -1", "-m 8m --memory-reservation 7m", "--cpus 1.5",
    "--cpu-period 50000 --cpu-quota 25000", "--cpuset-cpus 0-1,0", "--oom-score-adj 1000", "--restart on-failure:3",
    "--restart unless-stopped", "-w /a/../b", "--cap-add cap_net_admin --cap-drop all", "--cap-add SYS_TIME",
    "--stop-signal RTMIN+3", "--stop-signal sigterm", "--stop-signal 99", "--security-opt label:disable",
    "--security-opt no-new-privileges", "--isolation default", "--health-cmd x --health-interval 1ms",
    "--log-opt max-size=1m --log-opt tag=x", "--log-driver none", "-v /a:/b:z,ro", "-v /tmp:/a:rprivate,ro",
    "-v vol-a:/a:nocopy", "-v /tmp:/a:cached", "-v /b", "--tmpfs /run:size=1m",
    "--tmpfs /a --mount type=tmpfs,dst=/b", "--mount type=bind,src=/tmp,dst=/x,bind-propagation=rslave",
    "--mount type=volume,src=vol-a,dst=/x", "--network host --hostname h", "--network none -p 1:1",
    "--network host", "--uts host", "--pids-limit 0",
)  # fmt: skip
"""Lines that Docker 20.10.24 took."""


def body_of(words: str, *command: str) -> dict[str, object]:
    made = compile_docker(["docker", "create", *words.split(" ")[: None if words[-1] != " " else -1], "img", *command])
    assert isinstance(made, Create)
    return made.body


@pytest.mark.parametrize("words", REFUSED)
def test_refused(words):
    (refusal,) = refusals(body_of(words))
    assert REFUSED[words] in refusal.message


@pytest.mark.parametrize("words", TAKEN)
def test_taken(words):
    assert refusals(body_of(words)) == []


def test_a_relative_source_is_refused_where_nobody_resolves_it():
    for words in ("-v ./a:/b", "--mount type=bind,src=../a,dst=/b"):
        body = body_of(words)
        assert refusals(body, resolves=True) == []
        (refusal,) = refusals(body)
        assert refusal.message.startswith("a source that is a relative path")


def test_a_docker_line_is_warned_of():
    warnings = compile_docker(["docker", "run", "-d", "-m", "5m", "img"]).warnings
    assert warnings == (f"--memory: less than 6 MB of memory: {SEEN_ON} refuses to create such a container",)


def said(text):
    try:
        return [(p.line, p.key, p.message.partition(":")[0]) for p in compile_unit("a.service", text).warnings]
    except UnitFileError as error:
        return [(p.line, p.key, p.message) for p in error.problems]


@pytest.mark.parametrize(
    ("lines", "expected"),
    [
        ("[Container]\nImage=i\nMemory=4m", [(3, "Memory", "less than 6 MB of memory")]),
        ("[Service]\nMemoryMax=4M\n[Container]\nImage=i", [(2, "MemoryMax", "less than 6 MB of memory")]),
        ("[Container]\nImage=i\nVolume=/a:/b\nVolume=/c:/d:zz\nVolume=/e:/f", [(4, "Volume", "'zz' is no mode, or contradicts itself")]),
        ("[Container]\nImage=i\nPodmanArgs=--oom-score-adj=2000", [(3, "PodmanArgs", "a score that is not from -1000 to 1000")]),
        ("[Container]\nImage=i\nNetwork=container:x\nPublishPort=1:1", [(4, "PublishPort", "published ports in the network of another container")]),
        ("[Container]\nImage=i\nEntrypoint=", [(3, "Entrypoint", "neither an entry point nor a command")]),
        ("[Service]\nExecStart=x\n[Container]\nImage=i\nEntrypoint=", []),
        ("[Service]\nEnvironmentFile=/e\n[Container]\nImage=i\nMemory=${M}\nWorkingDir=${W}\nVolume=/a:bb",
         [(7, "Volume", "'bb' is not an absolute path in the container")]),
        ("[Service]\nEnvironmentFile=/e\n[Container]\nImage=i\nPodmanArgs=${M}\nWorkingDir=x", []),
        ("[Service]\nEnvironment=W=x\n[Container]\nImage=i\nWorkingDir=${W}", [(5, "WorkingDir", "the working directory 'x' is not absolute")]),
        ("[Container]\nImage=i\nWorkingDir=%h/x\nVolume=%S/a:/b", []),
    ],
)  # fmt: skip
def test_it_is_told_at_the_line_to_blame(lines, expected):
    assert said(lines) == expected


def test_what_a_variable_may_mend_is_not_told():
    line = "ExecStart=docker run -w ${W} --cap-add ${C} -v ${D}:/d --oom-score-adj 2000 img"
    (message,) = [p.message for p in compile_unit("a.service", f"[Service]\n{line}").warnings]
    assert message.startswith("--oom-score-adj: a score")
    (message,) = [
        p.message for p in compile_unit("a.service", "[Service]\nExecStart=docker run -m 4m --cpus ${C} img").warnings
    ]
    assert "cannot be checked" in message
