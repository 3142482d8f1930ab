"""Where keys are kept: one file of contexts that only its owner may read, or the environment."""

from __future__ import annotations

import contextlib
import dataclasses
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

from berthctl.failures import Exit, Failure

URL, TOKEN, CONTEXT = "BERTH_URL", "BERTH_TOKEN", "BERTH_CONTEXT"


@dataclasses.dataclass(frozen=True)
class Context:
    """An installation and the key by which it is asked."""

    url: str
    token: str = dataclasses.field(repr=False)
    tenant: str = ""


class Contexts:
    """The file of contexts; ``environment`` is where variables are read from."""

    def __init__(self, environment: Mapping[str, str]) -> None:
        self._environment = environment
        home = environment.get("XDG_CONFIG_HOME") or str(
            Path(environment.get("HOME", "~")).expanduser() / ".config"
        )
        self.path = Path(home) / "berth" / "contexts.json"

    def chosen(self, name: str = "") -> Context:
        """Give the context that is asked for by name, by the environment, or that was used last.

        Raises:
            Failure: there is none.
        """
        token = self._environment.get(TOKEN, "")
        if token and not name:
            return Context(url=normal(self._environment.get(URL) or self._current().url), token=token)
        kept = self._read()
        wanted = name or self._environment.get(CONTEXT, "") or kept["current"]
        found = kept["contexts"].get(wanted)
        if found is None:
            what = f"There is no context {wanted!r}." if wanted else "You are not signed in."
            raise Failure(f"{what} Run: berthctl login", Exit.NOT_SIGNED_IN)
        url = "" if name else self._environment.get(URL, "")
        return Context(url=normal(url or found["url"]), token=found["token"], tenant=found.get("tenant", ""))

    def names(self) -> tuple[list[str], str]:
        """Give the names of all contexts, and which one is used."""
        kept = self._read()
        return sorted(kept["contexts"]), kept["current"]

    def put(self, name: str, context: Context) -> None:
        """Keep a context and use it from now on."""
        kept = self._read()
        kept["contexts"][name] = dataclasses.asdict(context)
        kept["current"] = name
        self._write(kept)

    def use(self, name: str) -> None:
        """Use another context from now on.

        Raises:
            Failure: there is none of this name.
        """
        kept = self._read()
        if name not in kept["contexts"]:
            raise Failure(f"There is no context {name!r}. Run: berthctl contexts", Exit.NOT_FOUND)
        kept["current"] = name
        self._write(kept)

    def drop(self, name: str = "") -> str:
        """Forget a context, by default the one that is used; gives its name.

        Raises:
            Failure: there is none.
        """
        kept = self._read()
        name = name or kept["current"]
        if kept["contexts"].pop(name, None) is None:
            raise Failure("You are not signed in.", Exit.NOT_SIGNED_IN)
        if kept["current"] == name:
            kept["current"] = next(iter(sorted(kept["contexts"])), "")
        self._write(kept)
        return name

    def _current(self) -> Context:
        kept = self._read()
        found = kept["contexts"].get(kept["current"])
        if found is None:
            raise Failure(f"Say which installation is meant, in {URL}.", Exit.NOT_SIGNED_IN)
        return Context(url=found["url"], token="")

    def _read(self) -> dict[str, Any]:
        try:
            mode = self.path.stat().st_mode
            kept = json.loads(self.path.read_text())
        except FileNotFoundError:
            return {"current": "", "contexts": {}}
        except (OSError, ValueError) as error:
            raise Failure(
                f"{self.path} cannot be read: {error}. Remove it and sign in again.", Exit.NOT_SIGNED_IN
            ) from error
        if stat.S_IMODE(mode) & 0o077:
            raise Failure(
                f"Others may read {self.path}, which holds keys. Run: chmod 600 {self.path}",
                Exit.NOT_SIGNED_IN,
            )
        return {"current": kept.get("current", ""), "contexts": dict(kept.get("contexts", {}))}

    def _write(self, kept: Mapping[str, Any]) -> None:
        self.path.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
        # Beside it and renamed: a file that is half written would lose every key.
        with _beside(self.path) as (handle, name):
            with os.fdopen(handle, "w") as file:
                json.dump(kept, file, indent=2)
            os.replace(name, self.path)


@contextlib.contextmanager
def _beside(path: Path) -> Iterator[tuple[int, str]]:
    handle, name = tempfile.mkstemp(dir=path.parent, prefix=".contexts-")  # for its owner alone
    try:
        yield handle, name
    finally:
        with contextlib.suppress(FileNotFoundError):
            os.unlink(name)


def normal(url: str) -> str:
    """Give an installation's address without the path of its API."""
    return url.strip().rstrip("/").removesuffix("/api/v1")
