"""The engines' own logs."""

from __future__ import annotations

from typing import Any, Final

from django.http import HttpRequest, HttpResponse

from clusters.endpoints.selectors import endpoint_logs
from portal.pages.base import Live
from portal.pages.endpoint import EndpointPage
from tenants.errors import BerthError

LINES: Final = 200
EVERY_S: Final = 5


class LogsPage(EndpointPage):
    """What the page and its live part share."""

    tab = "endpoint-logs"

    def log(self) -> tuple[Live, str]:
        """Give the live log, and the replica it is of."""
        asked = self.request.GET.get("replica", "").replace("\x00", "")
        context: dict[str, Any]
        try:
            tail = endpoint_logs(self.endpoint, replica_id=asked, lines=LINES)
        except BerthError as error:
            context, replica = {"problem": error.message}, asked
        else:
            context, replica = {"tail": tail, "lines": LINES}, tail.replica
        query = {"replica": asked} if asked else {}
        live = self.live(
            "tenant/endpoint/log.html",
            context,
            name="endpoint-log",
            url=self.link("endpoint-log", **query),
            every_s=EVERY_S,
        )
        return live, replica


class Logs(LogsPage):
    """The last lines of one engine's log."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        log, replica = self.log()
        return self.render("tenant/endpoint/logs.html", {"log": log, "replica": replica})


class LogTail(LogsPage):
    """The live part, for htmx."""

    def get(self, request: HttpRequest, slug: str, id: str) -> HttpResponse:
        return self.live_answer(self.log()[0])
