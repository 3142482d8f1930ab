"""The doors of gateways: snapshots, tokenizers, usage, reports of replicas and endpoints, wakes, leases of budgets.

Each gateway has a token of its own.
"""

from __future__ import annotations

import math
import time

import msgspec
from asgiref.sync import sync_to_async
from django.http import HttpRequest, HttpResponse
from django.utils import timezone
from django.views.decorators.csrf import csrf_exempt
from django.views.decorators.http import require_GET, require_POST

from billing.budgets.exchange import exchange
from billing.metering.ingest import ingest
from clusters.endpoints.changes import wait_for_change
from clusters.endpoints.memory import keep_memory
from clusters.endpoints.signals import keep_signals
from clusters.endpoints.snapshot import build_snapshot
from clusters.endpoints.wanted import wake_wanted
from clusters.inventory.gateways import token_digest
from clusters.inventory.tokenizers import tokenizer_content
from clusters.models import Gateway
from gateway import contract
from tenants.errors import BerthError, NotFound

LONGEST_WAIT_S = 55.0
MOST_SEGMENTS = 5_000
MOST_INSTANCE = 48


class NotAGateway(BerthError):
    code = "not-authenticated"
    status = 401
    title = "This is not the token of a gateway"


class BadBatch(BerthError):
    code = "malformed"
    status = 400
    title = "The batch cannot be read"


@require_GET
async def snapshot(request: HttpRequest) -> HttpResponse:
    """Answer the gateway's snapshot as soon as it differs from ``version``; 304 after ``wait`` seconds."""
    try:
        gateway = await sync_to_async(_gateway)(request)
        until = time.monotonic() + _wait(request, longest=LONGEST_WAIT_S)
    except BerthError as error:
        return _refusal(error)
    held = request.GET.get("version", "")
    while True:
        newest = await sync_to_async(_newest)(gateway, held)
        if newest.version != held:
            return HttpResponse(msgspec.json.encode(newest), content_type="application/json")
        left = until - time.monotonic()
        if left <= 0:
            return HttpResponse(status=304)
        await wait_for_change(left)


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


@csrf_exempt
@require_POST
def usage(request: HttpRequest) -> HttpResponse:
    """Take a batch of usage segments; sending one again is always safe."""
    try:
        gateway = _gateway(request)
        try:
            batch = msgspec.json.decode(request.body, type=contract.UsageBatch)
        except msgspec.DecodeError as error:
            raise BadBatch(f"The body is not a batch of usage segments: {error}") from error
        if batch.gateway.split("/")[0] != gateway.name:
            raise BadBatch(f"This token belongs to gateway {gateway.name}, the batch says {batch.gateway}.")
        if len(batch.segments) > MOST_SEGMENTS:
            raise BadBatch(
                f"A batch has at most {MOST_SEGMENTS} segments; this one has {len(batch.segments)}."
            )
    except BerthError as error:
        return _refusal(error)
    receipt = ingest(batch=batch, now=timezone.now())
    return HttpResponse(msgspec.json.encode(receipt), content_type="application/json")


@csrf_exempt
@require_POST
def replicas(request: HttpRequest) -> HttpResponse:
    """Take what replicas of the gateway's region show of their memory; what is not its to tell is left."""
    try:
        gateway = _gateway(request)
        try:
            message = msgspec.json.decode(request.body, type=contract.ReplicaReports)
        except msgspec.DecodeError as error:
            raise BadBatch(f"The body holds no replica reports: {error}") from error
        if len(message.reports) > contract.MOST_REPORTS:
            raise BadBatch(f"One message has at most {contract.MOST_REPORTS} reports.")
        if any(len(report.metrics) > contract.MOST_REPORTED_BYTES for report in message.reports):
            raise BadBatch(f"A report has at most {contract.MOST_REPORTED_BYTES} bytes of metrics.")
    except BerthError as error:
        return _refusal(error)
    keep_memory(gateway=gateway, reports=message.reports)
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def signals(request: HttpRequest) -> HttpResponse:
    """Take how endpoints stand at the gateway; what its region may not serve is left."""
    try:
        gateway = _gateway(request)
        try:
            message = msgspec.json.decode(request.body, type=contract.EndpointSignals)
        except msgspec.DecodeError as error:
            raise BadBatch(f"The body holds no signals: {error}") from error
        name, _, instance = message.gateway.partition("/")
        if name != gateway.name:
            raise BadBatch(f"This token belongs to gateway {gateway.name}, the message says {name}.")
        if len(instance) > MOST_INSTANCE:
            raise BadBatch(f"The instance of a gateway has at most {MOST_INSTANCE} characters.")
        if len(message.signals) > contract.MOST_SIGNALS:
            raise BadBatch(f"One message has at most {contract.MOST_SIGNALS} signals.")
    except BerthError as error:
        return _refusal(error)
    keep_signals(gateway=gateway, message=message, now=timezone.now())
    return HttpResponse(status=204)


@csrf_exempt
@require_POST
def wakes(request: HttpRequest) -> HttpResponse:
    """Look at endpoints that requests ask for in vain, soon; what the gateway does not serve is left."""
    try:
        gateway = _gateway(request)
        try:
            message = msgspec.json.decode(request.body, type=contract.Wakes)
        except msgspec.DecodeError as error:
            raise BadBatch(f"The body names no endpoints to wake: {error}") from error
        if len(message.endpoint_ids) > contract.MOST_WAKES:
            raise BadBatch(f"One message names at most {contract.MOST_WAKES} endpoints.")
    except BerthError as error:
        return _refusal(error)
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
    try:
        report = msgspec.json.decode(request.body, type=contract.LeaseReport)
    except msgspec.DecodeError as error:
        raise BadBatch(f"The body is no report of leases: {error}") from error
    if report.gateway.split("/")[0] != gateway.name or len(report.gateway) > 64:
        raise BadBatch(f"This token belongs to gateway {gateway.name}, the report says {report.gateway}.")
    if len(report.lines) > contract.MOST_LINES:
        raise BadBatch(f"A report has at most {contract.MOST_LINES} lines; this one has {len(report.lines)}.")
    return report


def _wait(request: HttpRequest, *, longest: float) -> float:
    try:
        seconds = float(request.GET.get("wait", "0"))
    except ValueError:
        seconds = math.nan
    if math.isnan(seconds):
        raise BadBatch("wait must be a number of seconds.")
    return min(max(seconds, 0.0), longest)


def _gateway(request: HttpRequest) -> Gateway:
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    gateway = None
    if scheme.lower() == "bearer" and token:
        gateway = (
            Gateway.objects.select_related("region").filter(token_digest=token_digest(token.strip())).first()
        )
    if gateway is None:
        raise NotAGateway("Send the gateway's token as: Authorization: Bearer …")
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
    body = msgspec.json.encode({"code": error.code, "title": error.title, "detail": error.message})
    return HttpResponse(body, status=error.status, content_type="application/problem+json")
