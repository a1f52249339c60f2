"""[Container] steps and `docker run` on a real engine: exit codes, texts, and what is left behind."""

import asyncio
import re

import msgspec
import pytest

from tests.executors.docker_bench import NAMESPACE
from xchronos.executors.contract import Leftover
from xchronos.executors.docker.body import container_name
from xchronos.executors.docker.client import EngineRefusal
from xchronos.executors.docker.executor import DockerExecutor
from xchronos.executors.docker.output import log_config
from xchronos.testing.executors import eventually, output

pytestmark = pytest.mark.docker


async def test_the_engines_answer_to_probe(bench):
    said = await bench.executor.probe()
    assert re.search(r"\d+\.\d+", said), said  # some engines say a word of their own before the number


async def test_daemons_that_share_an_engine_leave_each_others_containers_alone(bench, docker_host):
    mine = bench.container("echo mine; sleep 60")
    running = asyncio.create_task(bench.executor.run(mine))
    await eventually(lambda: output(mine) == "mine\n")
    other = DockerExecutor(NAMESPACE, docker_host, owner="somebody else")
    try:
        assert await other.leftovers() == []
        # The same unit at the same fire time: two containers, neither adopts the other's.
        theirs = bench.container("echo theirs; exit 4")
        theirs = msgspec.structs.replace(theirs, step=mine.step, log_path=f"{bench.directory}/theirs.log")
        assert (await other.run(theirs)).code == 4
        assert output(theirs) == "theirs\n"
        await other.release(mine.execution, 1)
        assert (await bench.inspect(container_name(mine)))["State"]["Running"]
    finally:
        await other.close()
    await bench.executor.kill(mine)
    assert (await running).code == 137


@pytest.mark.parametrize("pull", ["missing", "never", "always", "newer"])
async def test_an_image_that_cannot_be_had(bench, pull):
    spec = bench.container("true", {"Image": "localhost:1/xct/none:1"}, pull=pull)
    result = await bench.executor.run(spec)
    assert (result.code, result.started_at) == (125, None)
    assert "localhost:1" in result.reason
    assert result.reason in output(spec)
    code, text = await bench.run("run|--rm|localhost:1/xct/none:1", step="run")
    assert code == 125
    assert "Unable to find image 'localhost:1/xct/none:1' locally\n" in text
    assert "docker: Error response from daemon: " in text


async def test_a_newer_image_that_cannot_be_had_leaves_the_one_that_is_here(bench):
    spec = bench.container("exit 3", {"Image": "localhost:1/xct/here:1"}, pull="newer")
    params = {"repo": "localhost:1/xct/here", "tag": "1"}
    await bench.engine.call("POST", f"/images/{bench.image}/tag", params=params)
    try:
        assert (await bench.executor.run(spec)).code == 3
        assert "using the image that is here" in output(spec)
    finally:
        await bench.engine.call("DELETE", "/images/localhost:1/xct/here:1")


@pytest.mark.parametrize(
    ("command", "code", "text"),
    [("nosuch", 127, "not found"), ("/etc/passwd", 126, "permission denied"), ("/etc", 126, "denied|directory")],
)
async def test_a_program_that_cannot_start(bench, command, code, text):
    spec = bench.line(f"run|--rm|--net|none|IMAGE|{command}")
    for _ in range(2):  # the second one adopts the failure
        result = await bench.executor.run(spec)
        assert (result.code, result.started_at) == (code, None)
        assert re.search(text, result.reason, re.IGNORECASE)
    assert (await bench.inspect(container_name(spec)))["State"]["Status"] == "created"
    within = bench.container("", {"Cmd": [command]})
    result = await bench.executor.run(within)
    assert result.code == code


async def test_a_seccomp_profile_holds(bench):
    (bench.directory / "no-mkdir.json").write_text(
        '{"defaultAction": "SCMP_ACT_ALLOW", "syscalls": [{"names": ["mkdir", "mkdirat"], "action": "SCMP_ACT_ERRNO"}]}'
    )
    code, text = await bench.run("run|--rm|--net|none|--security-opt|seccomp=no-mkdir.json|IMAGE|mkdir|/x")
    assert (code, "not permitted" in text) == (1, True), text
    profile = (bench.directory / "no-mkdir.json").read_text()
    spec = bench.container("mkdir /x", {"HostConfig": {"SecurityOpt": [f"seccomp={profile}"]}})
    assert (await bench.executor.run(spec)).code == 1
    assert "not permitted" in output(spec)


async def test_removing_by_force_does_not_wait_for_a_stop_timeout(bench):
    spec = bench.line("run|-d|--stop-timeout|60|--net|none|IMAGE|sh|-c|trap '' TERM; sleep 100 & wait; wait")
    result = await bench.executor.run(spec)
    assert result.code == 0
    async with asyncio.timeout(20):
        assert (await bench.run(f"rm|-f|{result.container}"))[0] == 0
    held = bench.container("trap '' TERM; echo up; sleep 100 & wait; wait", {"StopTimeout": 60})
    running = asyncio.create_task(bench.executor.run(held))
    await eventually(lambda: output(held) == "up\n")
    async with asyncio.timeout(20):
        await bench.executor.release(bench.execution, 1)
        await running


async def test_refusals_are_125_with_the_engines_words(bench):
    code, text = await bench.run("run|--rm|--net|xct-no-such-network|IMAGE|true")
    assert code == 125
    assert "xct-no-such-network" in text
    result = await bench.executor.run(bench.container("true", {"HostConfig": {"CapAdd": ["NO_SUCH"]}}))
    assert result.code == 125
    assert result.reason


async def test_memory(bench):
    limit = {"HostConfig": {"Memory": 8 << 20, "MemorySwap": 8 << 20}}
    spec = bench.container("exec tail /dev/zero", {**limit, "Cmd": ["tail", "/dev/zero"]})
    result = await bench.executor.run(spec)
    assert (result.code, result.oom_killed, result.reason) == (137, True, "out of memory")


async def test_the_conditions_of_a_container_step(bench):
    spec = bench.container("true", {"Env": ["A=1", "B=1"], "HostConfig": {"AutoRemove": True}}, secrets={"key": "s3"})
    spec = msgspec.structs.replace(spec, env={"B": "2"}, log_limit=1 << 20)
    assert (await bench.executor.run(spec)).code == 0
    found = await bench.inspect(container_name(spec))
    host = found["HostConfig"]
    assert (host["AutoRemove"], host["Init"], host["RestartPolicy"]["Name"]) == (False, True, "no")
    engine, logging = bench.executor._engine, host["LogConfig"]
    if engine.podman:  # which keeps the options to itself
        del logging["Config"]
        logging |= {"Type": "json-file", "Config": log_config(engine, 1 << 20, tty=False)["Config"]}
    assert logging == log_config(engine, 1 << 20, tty=False)
    assert sorted(entry for entry in found["Config"]["Env"] if entry[:2] in ("A=", "B=")) == ["A=1", "B=2"]
    assert found["Config"]["Labels"] == {
        "xchronos.unit": "d.service", "xchronos.execution": bench.execution, "xchronos.attempt": "1",
        "xchronos.step": spec.step, "xchronos.namespace": NAMESPACE, "xchronos.owner": "",
        "xchronos.name": container_name(spec), "xchronos.keep": "", "xchronos.partition": "",
    }  # fmt: skip


@pytest.mark.parametrize("named", [False, True])
async def test_a_container_run_by_hand_from_a_committed_one_is_left_alone(bench, named):
    """Images hand their labels on, so it has all of ours: it is told by its name, or by its image's labels."""
    spec = bench.line("run|--rm|--name|NAME|--net|none|IMAGE|true") if named else bench.container("true")
    result = await bench.executor.run(spec)
    image = f"{bench.name}-committed"
    await bench.engine.call("POST", "/commit", params={"container": result.container, "repo": image}, body={})
    await bench.executor.release(bench.execution, 1)
    body = {"Image": image, "Cmd": ["sleep", "60"], "HostConfig": {"NetworkMode": "none"}}
    byhand = await bench.engine.ask(
        "POST", "/containers/create", params={"name": bench.name if named else f"{bench.name}-1"}, body=body
    )
    try:
        await bench.engine.call("POST", f"/containers/{byhand['Id']}/start")
        labels = (await bench.inspect(byhand["Id"]))["Config"]["Labels"]
        assert labels["xchronos.execution"] == bench.execution
        left = await bench.executor.leftovers()
        assert not [one for one in left if one.execution == bench.execution]
        await bench.executor.remove([Leftover(bench.execution, 1, spec.step, True, "")])
        await bench.executor.tidy(bench.execution, 1, spec.step)
        await bench.executor.release(bench.execution, 1)
        assert (await bench.inspect(byhand["Id"]))["State"]["Running"]
        # Our own container of such an image is ours all the same.
        again = bench.container("exit 5", {"Image": image})
        assert (await bench.executor.run(again)).code == 5
        mine = [one for one in await bench.executor.leftovers() if one.execution == bench.execution]
        assert [one.step for one in mine] == [again.step]
    finally:
        await bench.engine.call("DELETE", f"/containers/{byhand['Id']}", params={"force": "1"})
        await bench.executor.release(bench.execution, 1)
        await bench.engine.call("DELETE", f"/images/{image}", params={"force": "1"})


async def test_labels_of_a_unit_or_an_image_cannot_deceive(bench):
    forged = {"xchronos.keep": "always", "xchronos.execution": "other.service/0/0", "xchronos.more": "x", "own": "1"}
    (bench.directory / "labels").write_text("".join(f"{name}={value}\n" for name, value in forged.items()))
    one = bench.container("true", {"Labels": forged})
    two = bench.line("run|--rm|--net|none|--label-file|labels|--label|xchronos.keep=always|IMAGE|true")
    for spec in (one, two):
        assert (await bench.executor.run(spec)).code == 0
        labels = (await bench.inspect(container_name(spec)))["Config"]["Labels"]
        assert (labels["xchronos.keep"], labels["xchronos.execution"]) == ("", bench.execution)
        assert "xchronos.more" not in labels
        assert labels["own"] == "1"
    await bench.executor.release(bench.execution, 1)
    assert await bench.inspect(container_name(one)) is None
    assert await bench.inspect(container_name(two)) is None


@pytest.mark.parametrize("how", ["unit", "step"])
async def test_a_time_zone_holds_in_an_image_without_rules(bench, how):
    spec = bench.container("date -d @1700000000 +%H:%M", {"Env": ["TZ=Asia/Tokyo"]} if how == "unit" else {})
    if how == "step":
        spec = msgspec.structs.replace(spec, env={"TZ": "Asia/Tokyo"})
    assert (await bench.executor.run(spec)).code == 0
    assert output(spec) == "07:13\n"


@pytest.mark.parametrize("zone", ["No/Such", "../../etc/passwd", "UTC0", "EST5EDT,M3.2.0,M11.1.0", ""])
async def test_what_names_no_zone_file_is_left_to_the_container(bench, zone):
    spec = bench.container('echo "$TZ"', {"Env": [f"TZ={zone}"]})
    assert (await bench.executor.run(spec)).code == 0
    assert output(spec) == f"{zone}\n"


async def test_a_time_zone_does_not_keep_a_read_only_container_from_running(bench):
    body = {"Env": ["TZ=Asia/Tokyo"], "HostConfig": {"ReadonlyRootfs": True}}
    spec = bench.container("date -d @1700000000 +%H:%M", body)
    assert (await bench.executor.run(spec)).code == 0
    assert ("no rules of the time zone Asia/Tokyo" in output(spec)) == ("22:13" in output(spec)), "podman takes them"


async def test_where_the_engine_has_no_init_the_container_runs_without(bench, monkeypatch):
    words = 'container create: lookup init binary: exec: "catatonit": executable file not found in $PATH'  # podman 5.4
    real, bodies = bench.executor._engine.call, []

    async def call(method, path, **options):
        if path == "/containers/create":
            bodies.append(options["body"])
            if options["body"]["HostConfig"].get("Init"):
                raise EngineRefusal(500, words)
        return await real(method, path, **options)

    monkeypatch.setattr(bench.executor._engine, "call", call)
    spec = bench.container("echo $$")
    assert (await bench.executor.run(spec)).code == 0
    assert [body["HostConfig"]["Init"] for body in bodies] == [True, False]
    assert output(spec).splitlines()[-1] == "1"
    assert f"the container runs without an init: {words}" in output(spec)
    refused = await bench.executor.run(bench.container("true", {"HostConfig": {"Init": True}}))
    assert (refused.code, refused.reason) == (125, words), "the unit asks for one"


async def test_a_container_has_an_init_or_its_log_says_why_not(bench):
    spec = bench.container("echo $$")
    assert (await bench.executor.run(spec)).code == 0
    without = output(spec).splitlines()[-1] == "1"
    assert without == ("the container runs without an init" in output(spec))


async def test_secrets_are_files(bench):
    spec = bench.container("cat /run/secrets/key /opt/x", secrets={"key": "one ", "/opt/x": "two"})
    assert (await bench.executor.run(spec)).code == 0
    assert output(spec) == "one two"


async def test_a_terminals_output(bench):
    assert await bench.run("run|--rm|-t|--net|none|IMAGE|echo|x") == (0, "x\r\n")


async def test_a_foreign_container_of_that_name(bench):
    assert (await bench.run("create|--name|NAME|IMAGE|true"))[0] == 0
    code, text = await bench.run("run|--rm|--name|NAME|IMAGE|true")
    assert code == 125
    assert "docker: Error response from daemon: " in text
    assert "already in use" in text


async def test_rm_waits_for_the_record_and_makes_room_for_the_next_attempt(bench):
    line = "run|--rm|--name|NAME|--net|none|IMAGE|sh|-c|exit 3"
    assert (await bench.run(line, step="start-0"))[0] == 3
    assert await bench.inspect(bench.name) is not None
    assert (await bench.run(line, step="start-0", attempt=2))[0] == 3
    assert (await bench.inspect(bench.name))["Config"]["Labels"]["xchronos.attempt"] == "2"
    await bench.executor.release(bench.execution, 2)
    assert await bench.inspect(bench.name) is None


async def test_a_name_without_rm_is_the_users(bench):
    assert (await bench.run("run|--name|NAME|--net|none|IMAGE|true"))[0] == 0
    await bench.executor.release(bench.execution, 1)
    assert await bench.inspect(bench.name) is not None
    assert not [left for left in await bench.executor.leftovers() if left.execution == bench.execution]
    assert await bench.run("rm|NAME") == (0, f"{bench.name}\n")


async def test_detached(bench):
    spec = bench.line("run|-d|--rm|--net|none|IMAGE|sleep|60")
    for _ in range(2):
        result = await bench.executor.run(spec)
        assert result.code == 0
        assert output(spec).splitlines()[-1] == result.container
    assert (await bench.inspect(result.container))["HostConfig"]["AutoRemove"] is False
    await bench.executor.release(bench.execution, 1)
    assert (await bench.inspect(result.container))["State"]["Running"]
    await bench.executor.stop(spec, "KILL")
    assert (await bench.run(f"wait|{result.container}"))[1] == "137\n"
    mine = [left for left in await bench.executor.leftovers() if left.execution == bench.execution]
    assert [left.running for left in mine] == [False]
    await bench.executor.remove(mine)
    assert await bench.inspect(result.container) is None
    await bench.executor.remove([])


async def test_env_files(bench):
    (bench.directory / "some.env").write_text("# c\nA=from file\n  B=x y \nHERE\nGONE\nC=\n")
    line = 'run|--rm|--net|none|--env-file|some.env|-e|A=line|IMAGE|sh|-c|echo "<$A><$B><$HERE><${GONE-no}><$C>"'
    assert await bench.run(line, env={"HERE": "h"}) == (0, "<line><x y ><h><no><>\n")
    (bench.directory / "bad.env").write_text("A=1\nB C=2\n")
    code, text = await bench.run("run|--env-file|bad.env|IMAGE|true")
    assert code == 125
    assert "bad.env:2: the name 'B C' contains blanks" in text
    code, text = await bench.run("run|--env-file|/no/such.env|IMAGE|true")
    assert (code, text) == (125, "docker: environment file /no/such.env: No such file or directory\n")


async def test_what_is_resolved_on_the_machine(bench):
    (bench.directory / "labels").write_text("a=1\nxct=file\n")
    (bench.directory / "seccomp.json").write_text('{"defaultAction": "SCMP_ACT_ALLOW"}')
    (bench.directory / "data").mkdir()
    (bench.directory / "data" / "f").write_text("bound")
    line = "run|--name|NAME|--rm|--net|none|--cidfile|cid|--label-file|labels|--label|xct=line|-v|./data:/data"
    spec = bench.line(f"{line}|--security-opt|seccomp=seccomp.json|IMAGE|cat|/data/f")
    result = await bench.executor.run(spec)
    assert (result.code, output(spec)) == (0, "bound")
    found = await bench.inspect(bench.name)
    assert (bench.directory / "cid").read_text() == found["Id"] == result.container
    code, text = await bench.run("run|--rm|--net|none|--mount|type=bind,src=./data,dst=/d|IMAGE|cat|/d/f")
    assert (code, text) == (0, "bound")
    assert (found["Config"]["Labels"]["a"], found["Config"]["Labels"]["xct"]) == ("1", "line")
    (bench.directory / "bad.json").write_text("{")
    code, text = await bench.run("run|--rm|--security-opt|seccomp=bad.json|IMAGE|true")
    assert (code, "not JSON" in text) == (125, True)
    code, text = await bench.run("run|--rm|--net|none|--cidfile|cid|IMAGE|true")
    assert (code, "container ID file" in text) == (125, True)


async def test_the_signal_reaches_process_1(bench):
    script = "trap 'echo bye; exit 4' TERM; echo ready; while :; do sleep 0.05; done"
    spec = bench.line(f"run|--rm|--name|NAME|--net|none|IMAGE|sh|-c|{script}")
    task = asyncio.create_task(bench.executor.run(spec))
    await eventually(lambda: "ready" in output(spec))
    await bench.executor.stop(bench.line("run|--name|NAME|IMAGE"), "KILL")  # not its own: nothing happens
    await bench.executor.stop(spec, "SIGTERM")
    assert (await task).code == 4


async def test_a_stop_in_the_middle_of_a_pull_starts_nothing(bench, monkeypatch):
    pulling = asyncio.Event()

    async def endless(*_, **__):
        pulling.set()
        await asyncio.sleep(60)

    monkeypatch.setattr("xchronos.executors.docker.images.pull", endless)
    spec = bench.container("exit 0", pull="always")
    task = asyncio.create_task(bench.executor.run(spec))
    await pulling.wait()
    await bench.executor.stop(spec, "SIGTERM")
    assert (await task).signal == "SIGTERM"
    assert await bench.inspect(container_name(spec)) is None


async def test_a_stop_that_comes_with_the_start_is_not_lost(bench):
    spec = bench.container("sleep 60")
    task = asyncio.create_task(bench.executor.run(spec))
    while await bench.inspect(container_name(spec)) is None:  # noqa: ASYNC110 - the engine sets no Event
        await asyncio.sleep(0)
    await bench.executor.stop(spec, "SIGTERM")
    async with asyncio.timeout(15):
        assert (await task).code == 143


@pytest.mark.parametrize("daemon", ["the same", "another"])
async def test_what_an_ended_step_leaves_is_removed_and_nothing_else(bench, docker_host, daemon):
    lines = {"run|--rm|--net|none|IMAGE|true": False, "run|--name|NAME|--net|none|IMAGE|true": True}
    specs = [(bench.line(line), stays) for line, stays in lines.items()]
    specs += [
        (bench.container("true"), False),
        (bench.container("true", {"Labels": {"xchronos.keep": "always"}}), False),
    ]
    specs.append((bench.line("run|-d|--rm|--net|none|IMAGE|sleep|60"), True))
    other = DockerExecutor(NAMESPACE, docker_host)
    for spec, stays in specs:
        result = await bench.executor.run(spec)
        assert result.code == 0
        assert await bench.inspect(result.container) is not None, "only after its end is durable"
        who = bench.executor if daemon == "the same" else other
        for _ in range(2):
            await who.tidy(spec.execution, spec.attempt, spec.step)
        assert (await bench.inspect(result.container) is not None) is stays, spec
    await other.close()


async def test_a_step_that_runs_is_not_tidied_away(bench, docker_host):
    spec = bench.container("echo up; sleep 60")
    task = asyncio.create_task(bench.executor.run(spec))
    await eventually(lambda: output(spec) == "up\n")
    other = DockerExecutor(NAMESPACE, docker_host)
    await other.tidy(spec.execution, spec.attempt, spec.step)
    await other.close()
    assert (await bench.inspect(container_name(spec)))["State"]["Running"]
    await bench.executor.kill(spec)
    assert (await task).code == 137
