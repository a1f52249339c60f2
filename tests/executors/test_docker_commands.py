"""The other `docker` command lines on a real engine: containers by verbs, networks, volumes, images."""

import asyncio
import json

import pytest

from xchronos.testing.executors import output

pytestmark = pytest.mark.docker


async def test_the_life_of_a_container_by_verbs(bench):
    code, text = await bench.run("create|--name|NAME|--net|none|--init|IMAGE|sh|-c|echo hello; sleep 60")
    assert code == 0
    assert (await bench.inspect(bench.name))["Id"] == text.strip()
    assert (await bench.run("start|NAME")) == (0, f"{bench.name}\n")
    assert (await bench.run("pause|NAME"))[0] == 0
    assert (await bench.run("unpause|NAME"))[0] == 0
    assert (await bench.run("restart|-t|1|NAME"))[0] == 0
    assert await bench.run("exec|-e|A=5|NAME|sh|-c|echo in $A; exit 3") == (3, "in 5\n")
    assert (await bench.run("exec|NAME|nosuch"))[0] in (126, 127)
    assert (await bench.run("exec|-d|NAME|true"))[0] == 0
    assert "hello\n" in (await bench.run("logs|NAME"))[1]
    code, text = await bench.run("inspect|NAME|xct-nothing")
    assert code == 1
    assert "Error: No such object: xct-nothing" in text
    assert json.loads(text.partition("Error: No such")[0])[0]["Name"] == f"/{bench.name}"
    assert bench.name in (await bench.run("ps"))[1]
    code, text = await bench.run("rm|NAME")
    assert code == 1
    assert "Error response from daemon: You cannot remove a running container" in text
    assert (await bench.run("kill|-s|TERM|NAME")) == (0, f"{bench.name}\n")
    assert (await bench.run("wait|NAME")) == (0, "143\n")
    code, text = await bench.run("kill|NAME")
    assert code == 1
    assert "is not running" in text
    assert (await bench.run("stop|NAME"))[0] == 0
    assert (await bench.run("rename|NAME|NAME2"))[0] == 0
    assert (await bench.run("rm|-f|NAME2")) == (0, f"{bench.name}2\n")
    for verb in ("rm", "kill", "stop", "start", "logs", "wait", "restart"):
        code, text = await bench.run(f"{verb}|NAME")
        assert (verb, code) == (verb, 1)
        assert text.startswith("Error response from daemon: ")
        assert f"No such container: {bench.name}" in text
    # Nothing was removed, so the client prints no name.
    assert await bench.run("rm|-f|NAME") == (0, f"Error response from daemon: No such container: {bench.name}\n")
    assert (await bench.run("exec|NAME|true"))[0] == 1


async def test_start_attached_takes_the_exit_code_and_is_found_again(bench):
    await bench.run("create|--name|NAME|--net|none|IMAGE|sh|-c|echo again; exit 6")
    spec = bench.line("start|-a|NAME")
    for _ in range(2):  # the second call finds that the container was started since the journal began
        result = await bench.executor.run(spec)
        assert (result.code, output(spec)) == (6, "again\n")
    assert await bench.run("start|-a|NAME") == (6, "again\n")  # another step starts it anew, and has its own output
    plain = bench.line("start|NAME")
    assert (await bench.executor.run(plain)).code == 0


async def test_a_command_without_a_container_is_given_up_by_a_signal(bench):
    await bench.run("run|-d|--init|--name|NAME|--net|none|IMAGE|sleep|60")
    for text in ("wait|NAME", "logs|-f|NAME", "exec|NAME|sleep|60"):
        spec = bench.line(text)
        task = asyncio.create_task(bench.executor.run(spec))
        await asyncio.sleep(0.4)
        await bench.executor.stop(spec, "SIGTERM")
        async with asyncio.timeout(10):
            result = await task
        assert result.signal == "SIGTERM" or result.code == 143
    spec = bench.line("wait|NAME")
    task = asyncio.create_task(bench.executor.run(spec))
    await asyncio.sleep(0.2)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    attached = bench.line("start|-a|NAME")
    task = asyncio.create_task(bench.executor.run(attached))
    await asyncio.sleep(0.4)
    await bench.executor.stop(attached, "SIGTERM")
    assert (await task).code == 143


async def test_networks_and_volumes(bench):
    code, text = await bench.run("network|create|NAME")
    assert (code, len(text.strip())) == (0, 64)
    try:
        assert (await bench.run("network|create|NAME"))[0] == 1
        again = bench.line("network|create|NAME", step="net")
        (bench.directory / ".net.begun").write_text('{"first": {}, "format": 1}')
        assert (await bench.executor.run(again)).code == 0
        await bench.run("create|--name|NAME|--net|none|IMAGE|true")
        second = bench.name + "-b"
        await bench.run("create|--name|NAME-b|IMAGE|true")
        assert (await bench.run(f"network|connect|NAME|{second}"))[0] == 0
        assert (await bench.run(f"network|disconnect|NAME|{second}"))[0] == 0
        assert (await bench.run(f"network|disconnect|NAME|{second}"))[0] == 1
    finally:
        assert (await bench.run("network|rm|NAME"))[0] == 0
    assert (await bench.run("network|rm|NAME"))[0] == 1
    assert await bench.run("volume|create|NAME") == (0, f"{bench.name}\n")
    assert bench.name in (await bench.run("volume|ls|-q"))[1]
    assert await bench.run("volume|rm|NAME") == (0, f"{bench.name}\n")
    assert (await bench.run("volume|rm|NAME"))[0] == 1


async def test_two_networks_at_once(bench):
    await bench.run("network|create|NAME-1")
    await bench.run("network|create|NAME-2")
    try:
        assert (await bench.run("create|--name|NAME|--net|NAME-1|--net|NAME-2|IMAGE|true"))[0] == 0
        networks = (await bench.inspect(bench.name))["NetworkSettings"]["Networks"]
        assert sorted(networks) == [f"{bench.name}-1", f"{bench.name}-2"]
        await bench.run("rm|NAME")
    finally:
        await bench.run("network|rm|NAME-1|NAME-2")


async def test_images(bench):
    assert (await bench.run("tag|IMAGE|NAME:1"))[0] == 0
    assert await bench.run("rmi|NAME:1") == (0, f"Untagged: {bench.name}:1\n")
    assert (await bench.run("rmi|NAME:1"))[0] == 1
    assert "xchronos/busybox" in (await bench.run("images"))[1]
    assert all(len(line) == 12 for line in (await bench.run("images|-q"))[1].split())
    code, text = await bench.run("pull|localhost:1/xct/none:1")
    assert code == 1
    assert "Error response from daemon" in text


async def test_pruning_only_what_is_labelled(bench):
    await bench.run("create|--name|NAME|--label|xct=NAME|IMAGE|true")
    code, text = await bench.run("container|prune|-f|--filter|label=xct=NAME")
    assert code == 0
    assert "Total reclaimed space: 0B" in text
    assert await bench.inspect(bench.name) is None


async def test_templates(bench):
    await bench.run("create|--name|NAME|-l|a=b|--net|none|IMAGE|true")
    assert await bench.run('inspect|-f|{{.State.Running}} {{index .Config.Labels "a"}}|NAME') == (0, "false b\n")
    code, text = await bench.run("inspect|--format|{{.State.Nope}}|NAME")
    assert (code, "template parsing error: no field 'Nope'" in text) == (1, True)
    code, text = await bench.run("inspect|--format=json|NAME")
    assert (code, text.count("\n"), text[:2]) == (0, 1, "[{")
    version = await bench.executor.probe()
    assert await bench.run("version|-f|{{.Server.Version}}") == (0, f"{version}\n")
    assert await bench.run("info|-f|{{.ServerVersion}}") == (0, f"{version}\n")
    assert (await bench.run("info|-f|{{.Nope}}"))[0] == 1
    assert (await bench.run("info|--format|json"))[1].startswith("{")
