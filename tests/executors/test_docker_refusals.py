"""The rules of `dockercli.refusals`, asked of the engine on which they were seen."""

import pytest

from tests.dockercli.test_refusals import REFUSED, TAKEN, body_of
from xchronos.dockercli.refusals import SEEN_ON
from xchronos.executors.docker.client import EngineRefusal

pytestmark = pytest.mark.docker


async def test_the_engine_refuses_what_the_rules_say(bench):
    version = await bench.executor.probe()
    if not version.startswith(SEEN_ON.removeprefix("Docker ")):
        pytest.skip(f"the rules were seen on {SEEN_ON}, this is {version}")
    answers = {}
    for words in (*REFUSED, *TAKEN):
        body = {**body_of(words, *(() if words[-1] == " " else ("true",))), "Image": bench.image}
        try:
            made = await bench.engine.call("POST", "/containers/create", params={"name": bench.name}, body=body)
        except EngineRefusal as refusal:
            answers[words] = refusal.message
        else:
            answers[words] = ""
            await bench.engine.call("DELETE", f"/containers/{made['Id']}", params={"force": "1", "v": "1"})
    assert [words for words in REFUSED if not answers[words]] == []
    assert {words: answers[words] for words in TAKEN if answers[words]} == {}
    await bench.engine.call("DELETE", "/volumes/vol-a")
