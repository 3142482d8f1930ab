"""What this room raises."""

from __future__ import annotations

from collections.abc import Mapping, Sequence


class EmbeddedError(Exception):
    """An embedded part could not do its work; the message says what to look at."""


class MissingRequirements(EmbeddedError):
    """The system lacks something Berth cannot bring itself; ``missing`` has a line for each."""

    def __init__(self, missing: Sequence[str]) -> None:
        self.missing = tuple(missing)
        super().__init__("this machine lacks:\n" + "\n".join(f"  - {line}" for line in self.missing))


class ServiceFailed(EmbeddedError):
    """PostgreSQL or Redis did not come up; the message ends with the tail of its log."""


class AlreadyRunning(EmbeddedError):
    """Another runner holds this data folder: ``pid`` is its process, ``urls`` where it answers."""

    def __init__(self, pid: int | None, urls: Mapping[str, str]) -> None:
        self.pid = pid
        self.urls = dict(urls)
        places = "".join(f"\n  {name}: {url}" for name, url in self.urls.items())
        super().__init__(f"already running as process {pid or 'unknown'}{places}")
