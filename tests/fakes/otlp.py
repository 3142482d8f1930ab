"""A collector of traces as a gateway sees it: takes OTLP over HTTP and understands its protobuf."""

from __future__ import annotations

import gzip

from aiohttp import web
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import (
    ExportTraceServiceRequest,
    ExportTraceServiceResponse,
)
from opentelemetry.proto.trace.v1.trace_pb2 import Span


class FakeCollector:
    """Starts on a free port. ``spans`` are all that came, ``raw`` the bodies as they came."""

    def __init__(self) -> None:
        self.spans: list[Span] = []
        self.raw: list[bytes] = []
        self.resources: list[dict[str, str]] = []
        self.status = 200
        self.url = ""

    async def __aenter__(self) -> FakeCollector:
        application = web.Application(client_max_size=64 * 1024 * 1024)
        application.router.add_post("/v1/traces", self._traces)
        self._runner = web.AppRunner(application, access_log=None, shutdown_timeout=0.1)
        await self._runner.setup()
        await web.TCPSite(self._runner, "127.0.0.1", 0).start()
        self.url = f"http://127.0.0.1:{self._runner.addresses[0][1]}"
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._runner.cleanup()

    def named(self, prefix: str) -> list[Span]:
        """Give the spans whose name begins with ``prefix``."""
        return [span for span in self.spans if span.name.startswith(prefix)]

    async def _traces(self, request: web.Request) -> web.Response:
        body = await request.read()
        if request.headers.get("content-encoding") == "gzip":
            body = gzip.decompress(body)
        if self.status != 200:
            return web.Response(status=self.status)
        self.raw.append(body)
        for resource in ExportTraceServiceRequest.FromString(body).resource_spans:
            self.resources.append(attributes(resource.resource))
            for scope in resource.scope_spans:
                self.spans += scope.spans
        answer = ExportTraceServiceResponse().SerializeToString()
        return web.Response(body=answer, content_type="application/x-protobuf")


def attributes(of: object) -> dict[str, object]:
    """Give the attributes of a span or a resource as plain values."""
    found = {}
    for attribute in of.attributes:  # type: ignore[attr-defined]
        kind = attribute.value.WhichOneof("value")
        found[attribute.key] = getattr(attribute.value, kind)
    return found
