"""The relay of an embedded Berth's wires, a process of its own: ``python -m embedded.faults.relay``."""

from __future__ import annotations

import asyncio
import contextlib
import sys
from typing import Final

from embedded.datadir import DataDir
from embedded.faults import wires
from embedded.faults.wires import State, Wire

LOOK_S: Final = 0.1
PIECE: Final = 65_536


class Line:
    """One wire: its listener, and the connections that pass."""

    def __init__(self, wire: Wire) -> None:
        self.wire = wire
        self.state = State()
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.StreamWriter] = set()

    async def follow(self, state: State) -> None:
        """Take the wire's state up: a cut wire refuses connections and breaks those that are open."""
        self.state = state
        if state.cut:
            await self.close()
        elif self._server is None:
            with contextlib.suppress(OSError):  # the port is being given back; the next look tries again
                self._server = await asyncio.start_server(self._pass, "127.0.0.1", self.wire.listen)

    async def close(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._open):
            writer.transport.abort()

    async def _pass(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            there, back = await asyncio.open_connection("127.0.0.1", self.wire.to)
        except OSError:
            writer.transport.abort()
            return
        both = {writer, back}
        self._open |= both
        try:
            async with asyncio.TaskGroup() as tasks:
                for source, sink in ((reader, back), (there, writer)):
                    pieces: asyncio.Queue[tuple[float, bytes]] = asyncio.Queue(maxsize=64)
                    tasks.create_task(self._take(source, pieces))
                    tasks.create_task(_hand_on(pieces, sink))
        except* OSError:
            for each in both:
                each.transport.abort()
        finally:
            self._open -= both
            for each in both:
                each.close()

    async def _take(self, reader: asyncio.StreamReader, pieces: asyncio.Queue[tuple[float, bytes]]) -> None:
        """Note of each piece when it is due: as late as the wire is slow when it comes."""
        loop = asyncio.get_running_loop()
        piece = b"-"
        while piece:
            piece = await reader.read(PIECE)
            await pieces.put((loop.time() + self.state.delay_s, piece))


async def _hand_on(pieces: asyncio.Queue[tuple[float, bytes]], writer: asyncio.StreamWriter) -> None:
    """Write pieces when they are due, in order, until the empty one that is the end."""
    loop = asyncio.get_running_loop()
    while True:
        due, piece = await pieces.get()
        await asyncio.sleep(max(0.0, due - loop.time()))
        if not piece:
            if writer.can_write_eof():
                writer.write_eof()
            return
        writer.write(piece)
        await writer.drain()


async def relay(data_dir: DataDir) -> None:
    """Follow the folder's wires until cancelled."""
    lines: dict[str, Line] = {}
    while True:
        present = {wire.name: wire for wire in wires.listed(data_dir)}
        for name in [name for name, line in lines.items() if present.get(name) != line.wire]:
            await lines.pop(name).close()
        for name, wire in present.items():
            line = lines.setdefault(name, Line(wire))
            await line.follow(wires.state(data_dir, name))
        await asyncio.sleep(LOOK_S)


def main() -> int:
    """Run the relay of the data folder that the environment names."""
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(relay(DataDir.from_environment()))
    return 0


if __name__ == "__main__":
    sys.exit(main())
