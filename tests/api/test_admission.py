"""How many requests are answered together, how large their bodies are, and that a slow peer holds no room."""

import asyncio
from typing import Any

import pytest

from xchronos.api.serving.admission import Level, Room, Turnstile
from xchronos.limits import (
    BODIES_BYTES,
    BODY_BYTES,
    COMPILES_AT_ONCE,
    COMPILES_WAITING,
    LISTS_AT_ONCE,
    LISTS_WAITING,
    LOGS_AT_ONCE,
    REQUESTS_AT_ONCE,
    REQUESTS_WAITING,
)


class World:
    """A layer in front of an application that answers when it is told to."""

    def __init__(self):
        self.room = Room()
        self.go = asyncio.Event()
        self.bodies = []
        self.inside = 0
        self.layer = Turnstile(self.app, self.room)

    async def app(self, scope, receive, send):
        self.inside += 1
        self.bodies.append((await receive())["body"])
        await self.go.wait()
        await send({"type": "http.response.start", "status": 200, "headers": []})
        await send({"type": "http.response.body", "body": b"ok", "more_body": False})
        self.inside -= 1

    def ask(self, parts=(b"",), path="/v1/units/a.service", headers=(), client=("1.1.1.1", 5), sent=None, method="GET"):
        return asyncio.create_task(self._ask(list(parts), path, headers, client, sent, method))

    async def _ask(self, parts, path, headers, client, sent, method):
        told = []

        async def receive():
            if not parts:
                await asyncio.Event().wait()
            part = parts.pop(0)
            if part is None:
                return {"type": "http.disconnect"}
            return {"type": "http.request", "body": part, "more_body": bool(parts)}

        async def send(message):
            told.append(message)
            if sent is not None and message["type"] == "http.response.body":
                await sent.wait()

        scope: Any = {"type": "http", "method": method, "path": path, "headers": headers, "client": client}
        await self.layer(scope, receive, send)
        return told[0]["status"] if told else None


async def settled():
    for _ in range(20):
        await asyncio.sleep(0)


async def test_a_body_comes_whole_and_is_counted_until_it_is_answered():
    world = World()
    asked = world.ask([b"one", b"two"])
    await settled()
    assert (world.bodies, world.room.bodies) == ([b"onetwo"], 6)
    world.go.set()
    assert await asked == 200
    assert world.room.bodies == 0


@pytest.mark.parametrize(
    ("parts", "headers", "status"),
    [
        ([b""], [(b"content-length", str(BODY_BYTES + 1).encode())], 413),
        ([b"x" * BODY_BYTES, b"x"], [], 413),
        ([b"x", None], [], None),
    ],
)
async def test_a_body_that_is_too_large_or_breaks_off_reaches_no_route(parts, headers, status):
    world = World()
    assert await world.ask(parts, headers=headers) == status
    assert (world.bodies, world.room.bodies) == ([], 0)


async def test_bodies_that_wait_do_not_fill_the_memory():
    world = World()
    world.room.bodies = BODIES_BYTES
    assert await world.ask([b"x"]) == 503
    assert world.room.bodies == BODIES_BYTES


async def test_so_many_are_answered_so_many_wait_and_the_next_is_told_to_ask_again():
    world = World()
    asked = [world.ask() for _ in range(REQUESTS_AT_ONCE + REQUESTS_WAITING)]
    await settled()
    assert (world.inside, world.room.others.waiting) == (REQUESTS_AT_ONCE, REQUESTS_WAITING)
    assert await world.ask() == 503
    probe, local = world.ask(path="/healthz"), world.ask(client=None)
    await settled()
    assert world.inside == REQUESTS_AT_ONCE + 2
    world.go.set()
    assert {await each for each in (*asked, probe, local)} == {200}
    assert world.room.others.waiting == 0


async def test_who_sends_or_reads_slowly_holds_no_room():
    world = World()
    world.go.set()
    never = asyncio.Event()
    slow = [world.ask([]) for _ in range(REQUESTS_AT_ONCE)] + [world.ask(sent=never) for _ in range(REQUESTS_AT_ONCE)]
    await settled()
    async with asyncio.timeout(5):
        assert await world.ask() == 200
    for each in slow:
        each.cancel()
    await asyncio.gather(*slow, return_exceptions=True)
    assert world.room.others.inside == 0


@pytest.mark.parametrize(
    ("method", "path", "level"),
    [
        ("GET", "/v1/units", "lists"),
        ("GET", "/v1/executions", "lists"),
        ("GET", "/v1/machines", "lists"),
        ("GET", "/v1/status", "lists"),
        ("GET", "/v1/units/a.service/executions", "lists"),
        ("GET", "/metrics", "lists"),
        ("GET", "/schema/openapi.json", "lists"),
        ("PUT", "/v1/units/a.service", "compiles"),
        ("POST", "/v1/verify", "compiles"),
        ("POST", "/v1/destroy", "compiles"),
        ("GET", "/v1/units/a.service", "others"),
        ("GET", "/v1/units/a.service/calendar", "others"),
        ("DELETE", "/v1/units/a.service", "others"),
        ("POST", "/v1/units/a.service/start", "others"),
        ("POST", "/v1/units", "others"),
    ],
)
def test_what_costs_most_has_a_level_of_its_own(method, path, level):
    room = Room()
    assert room.level(method, path) is getattr(room, level)


async def test_who_asks_for_lists_and_compiles_delays_nobody_else():
    world = World()
    lists = [world.ask(path="/v1/units") for _ in range(LISTS_AT_ONCE + LISTS_WAITING)]
    files = [world.ask(path="/v1/verify", method="POST") for _ in range(COMPILES_AT_ONCE + COMPILES_WAITING)]
    await settled()
    assert await world.ask(path="/v1/units") == 503
    assert await world.ask(path="/v1/verify", method="POST") == 503
    before = world.inside
    one = world.ask()
    await settled()
    assert world.inside == before + 1
    world.go.set()
    assert {await each for each in (*lists, *files, one)} == {200}


async def entered(level, flow, order):
    if await level.enter(flow):
        order.append(flow)
    else:
        order.append(f"not {flow}")


async def test_flows_have_their_turns_one_after_the_other():
    level, order = Level(1, 100), []
    assert await level.enter("a")
    tasks = [asyncio.create_task(entered(level, flow, order)) for flow in "aaaabbc"]
    await settled()
    for _ in tasks:
        level.leave()
        await settled()
    assert order == ["a", "b", "c", "a", "b", "a", "a"]
    level.leave()
    assert (level.inside, level.waiting) == (0, 0)


async def test_when_too_many_wait_the_peer_that_has_most_gives_way():
    level, order = Level(1, 4), []
    assert await level.enter("a")
    tasks = [asyncio.create_task(entered(level, flow, order)) for flow in ("a", "a", "a", "a", "a", "b", "b", "b")]
    await settled()
    # The fifth of a was refused for a's own; b came in at the cost of a, until both had as many.
    assert sorted(order) == ["not a", "not a", "not a", "not b"]
    for _ in range(4):
        level.leave()
        await settled()
    assert order[4:] == ["a", "b", "a", "b"]
    await asyncio.gather(*tasks)


async def test_a_turn_that_comes_to_who_has_given_up_goes_on_to_the_next():
    level, order = Level(1, 4), []
    assert await level.enter("a")
    first, _ = (asyncio.create_task(entered(level, flow, order)) for flow in ("a", "b"))
    await settled()
    level.leave()
    first.cancel()  # its turn has come in this very moment
    await settled()
    assert order == ["b"]
    level.leave()
    assert level.inside == 0


async def test_logs_are_counted_by_themselves():
    world = World()
    path = "/v1/executions/a/b/0/logs"
    asked = [world.ask(path=path) for _ in range(LOGS_AT_ONCE)]
    await settled()
    assert await world.ask(path=path) == 503
    other = world.ask()
    world.go.set()
    assert {await each for each in (*asked, other)} == {200}
    assert world.room.logs == 0


async def test_a_request_that_is_given_up_while_it_waits_is_forgotten():
    world = World()
    asked = [world.ask() for _ in range(REQUESTS_AT_ONCE + 1)]
    await settled()
    asked[-1].cancel()
    await asyncio.gather(asked[-1], return_exceptions=True)
    assert world.room.others.waiting == 0
    world.go.set()
    assert {await each for each in asked[:-1]} == {200}


def test_all_routes_share_the_room(api, cluster):
    assert api.put("/v1/units/a.service", content=b"x" * (BODY_BYTES + 1)).status_code == 413
    answer = api.post("/v1/verify", content=b"x" * (BODY_BYTES + 1))
    assert answer.json()["error"] == f"the body has {BODY_BYTES + 1} bytes: {BODY_BYTES} are the most"


async def test_one_server_has_one_room(services):
    from litestar.testing import AsyncTestClient

    from xchronos.api.app import create_app
    from xchronos.api.serving import admission

    made = []
    room = admission.Room.__init__

    def counted(self):
        made.append(self)
        room(self)

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(admission.Room, "__init__", counted)
        async with AsyncTestClient(create_app(services), base_url="http://127.0.0.1") as client:
            for path in ("/v1/units", "/v1/machines", "/v1/executions"):
                assert (await client.get(path)).status_code == 200
    assert len(made) == 1
