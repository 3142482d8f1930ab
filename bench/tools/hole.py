"""A way to a server that can be turned into a hole: what goes in is neither answered nor refused."""

from __future__ import annotations

import contextlib
import select
import socket
import threading
from types import TracebackType
from typing import Final, Self

CHUNK: Final = 64 * 1024
LOOK_S: Final = 0.1


class Way:
    """Forwards connections to ``port`` on loopback from a port of its own, for the length of a block.

    Once :meth:`swallow` was called, open connections carry nothing more and new ones are not taken: the queue of
    the listening socket is full, so that the kernel drops what asks for one. :meth:`mend` makes it a way again.
    """

    def __init__(self, port: int) -> None:
        self._to = port
        self._open, self._over = threading.Event(), threading.Event()
        self._open.set()
        self._listener = socket.socket()
        self._listener.bind(("127.0.0.1", 0))
        self._listener.listen(64)
        self.port: int = self._listener.getsockname()[1]
        self._plugs: list[socket.socket] = []
        self._pairs: set[tuple[socket.socket, socket.socket]] = set()
        self._lock = threading.Lock()
        self._thread = threading.Thread(target=self._take, name="way", daemon=True)

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._over.set()
        self._open.set()
        self._thread.join(5)
        self._break()
        self._unplug()
        self._listener.close()

    def swallow(self) -> None:
        """Become a hole."""
        self._open.clear()
        self._listener.listen(0)
        while True:
            plug = socket.socket()
            plug.settimeout(0.2)
            try:
                plug.connect(("127.0.0.1", self.port))
            except TimeoutError:
                plug.close()
                return
            self._plugs.append(plug)

    def mend(self) -> None:
        """Become a way again; connections from before are broken."""
        self._break()
        self._unplug()
        self._listener.listen(64)
        self._open.set()

    def _take(self) -> None:
        while not self._over.is_set():
            if not self._open.wait(LOOK_S):
                continue
            if not select.select([self._listener], [], [], LOOK_S)[0] or not self._open.is_set():
                continue
            here, _ = self._listener.accept()
            there = socket.create_connection(("127.0.0.1", self._to))
            for each in (here, there):
                each.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            with self._lock:
                self._pairs.add((here, there))
            for source, target in ((here, there), (there, here)):
                threading.Thread(target=self._carry, args=(source, target), daemon=True).start()

    def _carry(self, source: socket.socket, target: socket.socket) -> None:
        with contextlib.suppress(OSError):
            while content := source.recv(CHUNK):
                if not self._open.is_set():
                    return
                target.sendall(content)
            target.shutdown(socket.SHUT_WR)

    def _break(self) -> None:
        with self._lock:
            pairs, self._pairs = self._pairs, set()
        for each in (end for pair in pairs for end in pair):
            with contextlib.suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()

    def _unplug(self) -> None:
        for plug in self._plugs:
            plug.close()
        self._plugs.clear()
