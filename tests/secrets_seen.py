"""Keys that tests issue are looked for in what was logged; databases that were committed are searched as they go.

A test that logs a key on purpose carries the mark ``logs_secrets``.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator

import pytest

from tests.keys_found import KEY, has_key


class Listener(logging.Handler):
    """Keeps what was logged with a key in it, before any masking."""

    def __init__(self) -> None:
        super().__init__(logging.NOTSET)
        self.seen: list[str] = []
        self._formatter = logging.Formatter("%(name)s: %(message)s")

    def emit(self, record: logging.LogRecord) -> None:
        try:
            text = self._formatter.format(record)
        except Exception:  # noqa: BLE001 -- a line that cannot be formatted is another test's matter
            return
        if has_key(text):
            self.seen.append(KEY.sub("berth_…", text))


@pytest.fixture(scope="session")
def log_listener() -> Iterator[Listener]:
    """Hear everything that this process logs."""
    listener = Listener()
    logging.getLogger().addHandler(listener)
    yield listener
    logging.getLogger().removeHandler(listener)


@pytest.fixture(autouse=True)
def no_key_is_logged(request: pytest.FixtureRequest, log_listener: Listener) -> Iterator[None]:
    """Fail a test within which a key was logged.

    An application that is set up within a test sets logging up anew, and takes the listener away from it.
    """
    log_listener.seen.clear()
    if log_listener not in logging.getLogger().handlers:
        logging.getLogger().addHandler(log_listener)
    yield
    if not request.node.get_closest_marker("logs_secrets"):
        assert log_listener.seen == [], "a key was logged"
