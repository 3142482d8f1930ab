"""A stand-in for a Kubernetes API server: HTTPS on loopback, in a thread of its own, for as long as a test runs.

It keeps objects, owners of fields, versions, watches, tokens and RBAC closely enough for Berth's client and
driver, and it fails in the ways that clusters fail. What it does not decide is in ``NOT_VERIFIED``.
"""

from __future__ import annotations

import asyncio
import secrets
import threading
from collections.abc import Callable
from types import TracebackType
from typing import Any, Self

from aiohttp import web

from clusters.kube.credentials import Credentials
from clusters.kube.kinds import Kind
from tests.fakes.kube import rbac, tls
from tests.fakes.kube.faults import Call, Fault
from tests.fakes.kube.handler import Handler
from tests.fakes.kube.store import Store

NOT_VERIFIED = (
    "Pod Security admission: namespaces enforcing `restricted` take any pod here",
    "ValidatingAdmissionPolicies: they are kept, never evaluated",
    "schemas: unknown and ill-typed fields are taken; few immutable fields and names are checked",
    "field ownership: known list maps only, and no schemas of custom resources",
    "ResourceQuota and LimitRange: they are kept, never enforced or defaulted from",
    "RBAC: aggregated roles, escalation checks and the built-in roles are missing",
)
"""What only a real API server can decide."""

_START_S = 20


class FakeKube:
    """Use as a context manager, or ``start`` and ``stop`` it.

    ``admin`` are credentials that may do everything. ``calls`` holds every request on objects in order,
    ``writes`` those that could change something, ``changes`` those that did.
    """

    def __init__(self, *, history: int = 100_000) -> None:
        self.port = 0
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._run, name="fake-kube", daemon=True)
        self._store = Store(history=history)
        self._access = rbac.Access(self._store)
        self._handler = Handler(self._store, self._access)
        self._admin_token = self.token("admin", "system:masters", "system:authenticated")
        self._runner: web.AppRunner | None = None

    def start(self) -> Self:
        self._thread.start()
        self._wait(self._listen())
        return self

    def stop(self) -> None:
        self._wait(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(_START_S)
        self._loop.close()

    def __enter__(self) -> Self:
        return self.start()

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.stop()

    @property
    def server(self) -> str:
        return f"https://127.0.0.1:{self.port}"

    @property
    def ca_data(self) -> str:
        return tls.authority().pem

    @property
    def admin(self) -> Credentials:
        return self.credentials(self._admin_token)

    def credentials(self, token: str) -> Credentials:
        return Credentials(server=self.server, ca_data=self.ca_data, token=token)

    def token(self, user: str, *groups: str) -> str:
        """Let a user in; gives the token."""
        token = secrets.token_hex(16)
        self._access.users[token] = rbac.User(user, groups or ("system:authenticated",))
        return token

    def revoke(self, token: str) -> None:
        """Let nobody in by this token any more."""
        del self._access.users[token]

    @property
    def calls(self) -> list[Call]:
        return self._handler.calls

    @property
    def writes(self) -> list[Call]:
        return [call for call in self.calls if call.writes]

    @property
    def changes(self) -> list[Call]:
        return [call for call in self.calls if call.changed]

    @property
    def watches(self) -> int:
        """How many watches are open."""
        return self._handler.watches

    def forget_calls(self) -> None:
        self._handler.calls.clear()

    def serve(self, *optional: Kind) -> None:
        """Have kinds that a cluster may lack."""
        self._store.served.update(optional)

    def unserve(self, *optional: Kind) -> None:
        self._store.served.difference_update(optional)

    def set_version(self, major: int, minor: int) -> None:
        self._handler.version = (major, minor)

    def set_log(self, namespace: str, pod: str, container: str, text: str, *, previous: bool = False) -> None:
        """Say what a container wrote."""
        self._handler.logs[namespace, pod, container, previous] = text

    def hang(self, times: int = 1, *, verb: str = "", resource: str = "") -> None:
        """Never answer the next requests; ``resource`` may be a path such as /version."""
        self._plan(Fault("hang", times, verb, resource))

    def reset(self, times: int = 1, *, verb: str = "", resource: str = "") -> None:
        """Break the connection of the next requests before anything is done."""
        self._plan(Fault("reset", times, verb, resource))

    def lose_answers(self, times: int = 1, *, verb: str = "", resource: str = "") -> None:
        """Do what the next requests ask, and break the connection in place of an answer."""
        self._plan(Fault("lose", times, verb, resource))

    def busy(self, times: int = 1, *, retry_after: int = 1, verb: str = "", resource: str = "") -> None:
        """Answer the next requests with 429."""
        self._plan(Fault("busy", times, verb, resource, retry_after=retry_after))

    def fail(
        self,
        status: int,
        times: int = 1,
        *,
        reason: str = "InternalError",
        message: str = "it failed on purpose",
        verb: str = "",
        resource: str = "",
    ) -> None:
        """Answer the next requests with an error."""
        self._plan(Fault("fail", times, verb, resource, status, reason, message))

    def heal(self) -> None:
        """Plan no failure any more, and let watches speak again."""
        self._handler.faults.clear()
        self._handler.silent_watches = False

    def silence_watches(self) -> None:
        """Watches, open and new, stay open and say nothing, not even at their end."""
        self._handler.silent_watches = True
        self._do(lambda: self._store.moved.set())

    def reset_watches(self) -> None:
        """Break the connections of open watches."""
        self._do(self._cut)

    def expire(self, *, as_status: bool = False) -> None:
        """Forget the history: open watches end with a 410 event, begun ones with one or with the status."""
        self._handler.gone_as_status = as_status

        def forget() -> None:
            self._store.forget()
            moved, self._store.moved = self._store.moved, asyncio.Event()
            moved.set()

        self._do(forget)

    def set_bookmarks(self, seconds: float) -> None:
        """Have quiet watches say a bookmark that often."""
        self._handler.bookmark_s = seconds

    def away(self) -> None:
        """Stop listening and break every connection; the objects stay."""
        self._wait(self._close())

    def back(self) -> None:
        """Listen again, at the same address."""
        self._wait(self._listen())

    def _plan(self, fault: Fault) -> None:
        self._handler.faults.append(fault)

    def _cut(self) -> None:
        cut, self._handler.cut = self._handler.cut, asyncio.Event()
        cut.set()

    def _run(self) -> None:
        asyncio.set_event_loop(self._loop)
        self._loop.run_forever()

    async def _listen(self) -> None:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_route("*", "/{path:.*}", self._handler.answer)
        self._runner = web.AppRunner(
            application, access_log=None, shutdown_timeout=0.05, handler_cancellation=True
        )
        await self._runner.setup()
        site = web.TCPSite(
            self._runner, "127.0.0.1", self.port, ssl_context=tls.loopback(), reuse_address=True
        )
        await site.start()
        self.port = self._runner.addresses[0][1]

    async def _close(self) -> None:
        self._cut()
        if self._runner is None:
            return
        server = self._runner.server
        for site in list(self._runner.sites):
            await site.stop()
        for connection in list(server.connections) if server else ():
            if connection.transport is not None:
                connection.transport.abort()
        await self._runner.cleanup()
        self._runner = None

    def _do(self, step: Callable[[], None]) -> None:
        async def run() -> None:
            step()

        self._wait(run())

    def _wait(self, step: Any) -> Any:
        return asyncio.run_coroutine_threadsafe(step, self._loop).result(_START_S)
