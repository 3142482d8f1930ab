"""Where keys are kept: one file of contexts that only its owner may read, or the environment."""

from __future__ import annotations

import contextlib
import dataclasses
import ipaddress
import json
import os
import stat
import tempfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from berthctl.failures import Exit, Failure

URL, TOKEN, CONTEXT = "BERTH_URL", "BERTH_TOKEN", "BERTH_CONTEXT"
ALLOW_HTTP = "BERTH_ALLOW_HTTP"


@dataclasses.dataclass(frozen=True)
class Context:
    """An installation and the key by which it is asked; ``allow_http``: unencrypted, too, on another machine."""

    url: str
    token: str = dataclasses.field(repr=False)
    tenant: str = ""
    allow_http: bool = False

    def refuse_plain(self) -> None:
        """Refuse an address at which others could read the key.

        Raises:
            Failure: it is one, or it is no address.
        """
        parts = urlsplit(self.url)
        if parts.scheme not in ("http", "https") or not parts.hostname:
            raise Failure(f"{self.url} is no address: write https://berth.example.", Exit.USAGE)
        if parts.scheme == "http" and not self.allow_http and not _here(parts.hostname):
            raise Failure(
                f"{self.url} is not encrypted, and others could read the key on its way. Use https, or sign in with"
                f" login --allow-http; with {TOKEN}, set {ALLOW_HTTP}=1.",
                Exit.USAGE,
            )


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

        A kept key goes to the installation that it was kept for, and to no other.

        Raises:
            Failure: there is none, or the environment names another installation than the kept key's.
        """
        token = self._environment.get(TOKEN, "")
        if token and not name:
            at = (
                Context(url=self._environment[URL], token="")
                if self._environment.get(URL)
                else self._current()
            )
            allowed = at.allow_http or self._environment.get(ALLOW_HTTP, "") == "1"
            return Context(url=normal(at.url), token=token, allow_http=allowed)
        kept = self._read()
        wanted = name or self._environment.get(CONTEXT, "") or kept["current"]
        found = kept["contexts"].get(wanted)
        if found is None:
            what = f"There is no context {wanted!r}." if wanted else "You are not signed in."
            raise Failure(f"{what} Run: berthctl login", Exit.NOT_SIGNED_IN)
        context = Context(
            url=normal(found["url"]),
            token=found["token"],
            tenant=found.get("tenant", ""),
            allow_http=bool(found.get("allow_http")),
        )
        url = "" if name else normal(self._environment.get(URL, ""))
        if url and url != context.url:
            raise Failure(
                f"{URL} is {url}, but the key of context {wanted!r} is for {context.url}. Set {TOKEN} with {URL}, unset"
                f" {URL}, or run: berthctl login --url {url}",
                Exit.USAGE,
            )
        return context

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
        """Forget a context, by default the one that the environment names or that is used; gives its name.

        Raises:
            Failure: there is none.
        """
        kept = self._read()
        name = name or self._environment.get(CONTEXT, "") or kept["current"]
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
        return Context(url=found["url"], token="", allow_http=bool(found.get("allow_http")))

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


def _here(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"
