"""The doors of gateways: snapshots, tokenizers, usage, reports of replicas and endpoints, wakes, leases of budgets.

Each gateway has a token of its own.
"""

from __future__ import annotations

import functools
import math
import time
from collections.abc import Callable
from typing import TypeVar

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from billing.budgets.exchange import exchange
from billing.metering.ingest import ingest
from clusters.api import usage_door
from clusters.api.gateway_messages import (
    PROBLEM,
    BadBatch,
    NotAGateway,
    bearer,
    check_count,
    check_name,
    problem,
)
from clusters.endpoints.changes import changes_heard
from clusters.endpoints.engine_tokens import keep_engine_tokens
from clusters.endpoints.memory import keep_memory
from clusters.endpoints.signals import keep_signals
from clusters.endpoints.snapshot import build_snapshot
from clusters.endpoints.wanted import wake_wanted
from clusters.inventory.gateways import token_digest
from clusters.inventory.tokenizers import tokenizer_content
from clusters.models import Gateway
from gateway import contract
from tenants import acting
from tenants.errors import BerthError, NotFound

LONGEST_WAIT_S = 55.0

_Message = TypeVar("_Message", bound=msgspec.Struct)
_Door = Callable[[HttpRequest], HttpResponse]
_Take = Callable[[Gateway, _Message], HttpResponse]


@require_GET
async def snapshot(request: HttpRequest) -> HttpResponse:
    """Answer the gateway's snapshot as soon as it differs from ``version``; 304 after ``wait`` seconds."""
    try:
        gateway = await sync_to_async(_gateway)(request)
        until = time.monotonic() + _wait(request, longest=LONGEST_WAIT_S)
    except BerthError as error:
        return _refusal(error)
    held = request.GET.get("version", "")
    async with changes_heard() as wait:
        while True:
            newest = await sync_to_async(_newest)(gateway, held)
            if newest.version != held:
                return HttpResponse(msgspec.json.encode(newest), content_type="application/json")
            left = until - time.monotonic()
            if left <= 0:
                return HttpResponse(status=304)
            await wait(left)


@require_GET
def tokenizer(request: HttpRequest, digest: str) -> HttpResponse:
    """Give the ``tokenizer.json`` of this SHA-256; one that the gateway names in If-None-Match is not sent."""
    etag = f'"{digest}"'
    try:
        _gateway(request)
        if etag in request.headers.get("If-None-Match", ""):
            return HttpResponse(status=304, headers={"ETag": etag})
        content = tokenizer_content(digest)
        if content is None:
            raise NotFound("No model of the catalog has this tokenizer.")
    except BerthError as error:
        return _refusal(error)
    return HttpResponse(content, content_type="application/json", headers={"ETag": etag})


def _takes(message_type: type[_Message], what: str) -> Callable[[_Take[_Message]], _Door]:
    """Make a door that takes a POST of ``message_type`` from a gateway."""

    def door_of(take: _Take[_Message]) -> _Door:
        @csrf_exempt
        @require_POST
        @functools.wraps(take)
        def door(request: HttpRequest) -> HttpResponse:
            try:
                gateway = _gateway(request)
                return take(gateway, _decoded(request, message_type, what))
            except BerthError as error:
                return _refusal(error)

        return door

    return door_of


@csrf_exempt
@require_POST
def usage(request: HttpRequest) -> HttpResponse:
    """Take a batch of usage segments; sending one again is always safe.

    An ASGI server answers before this is asked: see :mod:`clusters.api.usage_door`.
    """
    try:
        receipt = ingest(batch=usage_door.read(_gateway(request).name, request.body), now=timezone.now())
    except BerthError as error:
        return _refusal(error)
    return HttpResponse(msgspec.json.encode(receipt), content_type="application/json")


@_takes(contract.ReplicaReports, "replica reports")
def replicas(gateway: Gateway, message: contract.ReplicaReports) -> HttpResponse:
    """Take what replicas of the gateway's region show of memory and tokens; what is not its to tell is left."""
    check_count(len(message.reports), "reports", most=contract.MOST_REPORTS)
    if any(len(report.metrics) > contract.MOST_REPORTED_BYTES for report in message.reports):
        raise BadBatch(f"A report has at most {contract.MOST_REPORTED_BYTES} bytes of metrics.")
    keep_memory(gateway=gateway, reports=message.reports)
    keep_engine_tokens(gateway=gateway, reports=message.reports, now=timezone.now())
    return HttpResponse(status=204)


@_takes(contract.EndpointSignals, "signals of endpoints")
def signals(gateway: Gateway, message: contract.EndpointSignals) -> HttpResponse:
    """Take how endpoints stand at the gateway; what its region may not serve is left."""
    check_name(gateway.name, message.gateway)
    check_count(len(message.signals), "signals", most=contract.MOST_SIGNALS)
    keep_signals(gateway=gateway, message=message, now=timezone.now())
    return HttpResponse(status=204)


@_takes(contract.Wakes, "endpoints to wake")
def wakes(gateway: Gateway, message: contract.Wakes) -> HttpResponse:
    """Look at endpoints that requests ask for in vain, soon; what the gateway does not serve is left."""
    check_count(len(message.endpoint_ids), "endpoints", most=contract.MOST_WAKES)
    wake_wanted(gateway=gateway, endpoint_ids=message.endpoint_ids)
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
async def leases(request: HttpRequest) -> HttpResponse:
    """Take what a gateway spent of budgets and answer what it may spend; wait for news where it tells nothing."""
    try:
        report = await sync_to_async(_lease_report)(request)
        answer = await exchange(report, wait_s=_wait(request, longest=contract.MOST_LEASE_WAIT_S))
    except BerthError as error:
        return _refusal(error)
    return HttpResponse(msgspec.json.encode(answer), content_type="application/json")


def _lease_report(request: HttpRequest) -> contract.LeaseReport:
    gateway = _gateway(request)
    report = _decoded(request, contract.LeaseReport, "a report of leases")
    check_name(gateway.name, report.gateway)
    check_count(len(report.lines), "lines", most=contract.MOST_LINES)
    return report


def _decoded(request: HttpRequest, message_type: type[_Message], what: str) -> _Message:
    try:
        return msgspec.json.decode(request.body, type=message_type)
    except (msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BadBatch(f"The body does not hold {what}: {error}") from error


def _wait(request: HttpRequest, *, longest: float) -> float:
    try:
        seconds = float(request.GET.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise BadBatch("wait must be a number of seconds.")
    return min(max(seconds, 0.0), longest)


def _gateway(request: HttpRequest) -> Gateway:
    token = bearer(request.headers.get("Authorization", ""))
    rows = Gateway.objects.select_related("region").filter(token_digest=token_digest(token))
    gateway = rows.first() if token else None
    if gateway is None:
        raise NotAGateway
    acting.identify(acting.Actor("gateway", str(gateway.id), gateway.name))
    return gateway


def _newest(gateway: Gateway, held: str) -> contract.Snapshot:
    # Taken before the rows are read: what is confirmed as of then is surely in the snapshot.
    as_of = timezone.now()
    newest = build_snapshot(gateway)
    changes = {"last_seen_at": as_of, "snapshot_version": held}
    if newest.version == held:
        changes["confirmed_at"] = as_of
    Gateway.objects.filter(id=gateway.id).update(**changes)
    return newest


def _refusal(error: BerthError) -> HttpResponse:
    return HttpResponse(problem(error), status=error.status, content_type=PROBLEM)
