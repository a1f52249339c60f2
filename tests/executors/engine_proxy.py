"""A unix socket in front of the Docker engine whose connections a test can cut, refuse or answer wrongly."""

import asyncio
from pathlib import Path
from typing import Self


class Proxy:
    """Passes bytes to and fro. `cut` ends all connections, `down` refuses new ones; `swallow` drops the answer to the
    next request whose first line contains the text (the engine does carry it out)."""

    def __init__(self, path: Path, engine: str) -> None:
        self.path = path
        self.host = f"unix://{path}"
        self.down = False
        self.swallow = ""
        self.seen: list[str] = []
        self._engine = engine.removeprefix("unix://")
        self._writers: set[asyncio.StreamWriter] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def __aenter__(self) -> Self:
        self._server = await asyncio.start_unix_server(self._serve, self.path)
        return self

    async def __aexit__(self, *_: object) -> None:
        self._server.close()
        self.cut()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    def cut(self) -> None:
        for writer in self._writers:
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._tasks.add(asyncio.current_task())
        self._writers.add(writer)
        if self.down:
            writer.transport.abort()
            return
        up_reader, up_writer = await asyncio.open_unix_connection(self._engine)
        self._writers.add(up_writer)
        drop = asyncio.Event()

        async def upward() -> None:
            while data := await reader.read(65536):
                line = data.split(b"\r\n", 1)[0].decode(errors="replace")
                if line.endswith("HTTP/1.1"):
                    self.seen.append(line)
                    if self.swallow and self.swallow in line:
                        self.swallow = ""
                        drop.set()
                up_writer.write(data)
                await up_writer.drain()

        async def downward() -> None:
            while data := await up_reader.read(65536):
                if drop.is_set():
                    break
                writer.write(data)
                await writer.drain()

        pumps = [asyncio.create_task(upward()), asyncio.create_task(downward())]
        await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
        for pump in pumps:
            pump.cancel()
        await asyncio.gather(*pumps, return_exceptions=True)
        for end in (writer, up_writer):
            self._writers.discard(end)
            end.transport.abort()
