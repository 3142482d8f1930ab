"""Whether the engine still lives. One that died while its server goes on would be called ready for ever."""

from __future__ import annotations

import os
import signal
import time
from collections.abc import Callable
from typing import Any

FATAL = ("CppExecutorError",)
"""The engine's own names for errors after which it serves nobody."""
FAILURES = 8
FAILING_S = 20.0
"""So many requests in a row that failed, over so long, are the engine's fault and not their own."""
SILENT_S = 300.0
"""For so long no request may be without any token: the longest prompt takes less."""


class Vitality:
    """What is known of the engine's life, from what it says and from how its requests end."""

    def __init__(self, llm: Any, clock: Callable[[], float] = time.monotonic) -> None:
        self._llm = llm
        self._clock = clock
        self._heard_at = clock()
        self._failures = 0
        self._failing_since = 0.0
        self._fatal = ""

    def heard(self) -> None:
        """Note that the engine has said something of a request."""
        self._heard_at = self._clock()

    def answered(self) -> None:
        """Note that the engine has ended a request with an answer."""
        self._failures = 0

    def failed(self, error: Exception) -> None:
        """Note that the engine ended a request with ``error``."""
        name = type(error).__name__
        if name in FATAL:
            self._fatal = name
        if not self._failures:
            self._failing_since = self._clock()
        self._failures += 1

    def death(self, *, working: bool) -> str:
        """Say what the engine died of, empty while it lives; ``working`` is whether it has requests now."""
        now = self._clock()
        if not working:
            self._heard_at = now
        if self._fatal:
            return self._fatal
        if not _says_well(self._llm):
            return "it has shut down"
        if self._failures >= FAILURES and now - self._failing_since >= FAILING_S:
            return f"{self._failures} requests in a row failed"
        if now - self._heard_at > SILENT_S:
            return f"it has said nothing for {SILENT_S:.0f} seconds"
        return ""


def end(server: int) -> None:
    """End this process and the server with process id ``server``, which may not notice by itself."""
    if os.getppid() == server:
        os.kill(server, signal.SIGTERM)
    os._exit(1)


def _says_well(llm: Any) -> bool:
    check = getattr(llm, "_check_health", None)
    if check is not None:
        return bool(check())
    executor = getattr(llm, "_executor", None)
    return executor is None or not executor.is_shutdown()
