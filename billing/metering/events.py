"""Usage of engines outside Berth: CloudEvents 1.0 of type ``berth.usage.v1``, into the table of gateways' segments.

An event is known by its source and id, within the UTC day of its time: sending one again stores nothing. The engine is
told apart by a name of the sender's choosing; it gets a label like an endpoint of Berth's, so that it is rolled up,
rated and shown like one.
"""

from __future__ import annotations

import datetime as dt
import hashlib
import uuid
from collections.abc import Iterable, Mapping, Sequence
from typing import Annotated, Any, Final

import msgspec
from cloudevents.core.exceptions import CloudEventValidationError
from cloudevents.core.v1.event import CloudEvent
from django.conf import settings
from django.db import transaction

from billing.metering.checks import Check, is_uuid
from billing.metering.ingest import UNLESS_KNOWN, execute, insertion
from billing.metering.partitions import dropped_days, ensure_partitions
from billing.models import EndpointLabel
from gateway.contract import Outcome, UsageSegment
from tenants import scope
from tenants.models import Project

TYPE: Final = "berth.usage.v1"
MOST_EVENTS: Final = 1_000
_LONGEST_ID: Final = 200
_LONGEST_SOURCE: Final = 300
_KEYS: Final = uuid.UUID("6f1d0a52-9d4e-5c0b-8a5e-3f3f4a1f7c10")
_ENGINES: Final = uuid.UUID("b0a1f5b0-7a39-5b9f-9a0e-51f0f2b8e6d4")

_Count = Annotated[int, msgspec.Meta(ge=0, le=2**63 - 1)]
_Text = Annotated[str, msgspec.Meta(min_length=1, max_length=80)]


class UsageData(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """What one event says: ``requests`` that ended at its time, and the tokens of all of them together.

    ``project`` is a project's slug or id, ``endpoint`` the engine's name, ``key`` whatever tells its callers apart (the
    id of a key of Berth's, a user's name). ``input_tokens`` include ``cached_tokens``.
    """

    project: _Text
    endpoint: Annotated[str, msgspec.Meta(min_length=1, max_length=63)]
    model: _Text
    input_tokens: _Count = 0
    output_tokens: _Count = 0
    cached_tokens: _Count = 0
    requests: Annotated[int, msgspec.Meta(ge=1, le=2**31 - 1)] = 1
    key: Annotated[str, msgspec.Meta(max_length=80)] = ""
    slo_class: Annotated[str, msgspec.Meta(max_length=40)] = ""
    region: Annotated[str, msgspec.Meta(max_length=40)] = ""
    outcome: Outcome = Outcome.COMPLETED


class EventSegment(UsageSegment, frozen=True, kw_only=True, gc=False):
    """A segment that is one event."""

    event: str
    source: str


class RefusedEvent(msgspec.Struct, frozen=True):
    """An event that was not taken, and why; ``position`` is its place in the batch, from 0."""

    position: int
    id: str
    source: str
    reason: str


class EventReceipt(msgspec.Struct, frozen=True):
    """The answer to a batch: every event is inserted, a duplicate, or refused."""

    inserted: int
    duplicates: int
    refused: tuple[RefusedEvent, ...]


class _Wrong(Exception):
    """An event cannot be taken; the message says why."""


@transaction.atomic
def events_take(*, events: Sequence[object], now: dt.datetime) -> EventReceipt:
    """Store what is new of ``events`` (CloudEvents as JSON) for the open tenant.

    An event that cannot be taken is refused with the reason and does not hinder the others.
    """
    tenant_id = scope.current_tenant_id()
    projects = {
        name: project for project in Project.objects.all() for name in (project.slug, str(project.id))
    }
    refused: list[RefusedEvent] = []
    found: list[tuple[int, EventSegment]] = []
    named: dict[str, tuple[Project, UsageData]] = {}
    for position, each in enumerate(events):
        try:
            event, data = _read(each)
            project = projects.get(data.project)
            if project is None:
                raise _Wrong(f"there is no project {data.project!r}; give its slug or id")
            segment = _segment(event, data, project, tenant_id)
        except _Wrong as error:
            refused.append(_refusal(position, each, str(error)))
            continue
        found.append((position, segment))
        named[segment.endpoint_id] = (project, data)
    accepted: list[EventSegment] = []
    for position, segment in found:
        reason = _check(segment, now).complaint(segment)
        if reason:
            refused.append(_refusal(position, events[position], reason))
        else:
            accepted.append(segment)
    inserted = 0
    if accepted:
        ensure_partitions({segment.day for segment in accepted})
        statement, values = insertion(accepted, now, further=("event", "source"))
        inserted = execute(statement + UNLESS_KNOWN, values)
        _label(named[name] for name in dict.fromkeys(segment.endpoint_id for segment in accepted))
    return EventReceipt(
        inserted=inserted,
        duplicates=len(accepted) - inserted,
        refused=tuple(sorted(refused, key=lambda each: each.position)),
    )


def engine_id(tenant_id: uuid.UUID, project_id: uuid.UUID, name: str) -> uuid.UUID:
    """Give the id under which usage of an engine outside Berth is kept."""
    return uuid.uuid5(_ENGINES, f"{tenant_id}/{project_id}/{name}")


def source_gateway(source: str) -> str:
    """Give what stands for a source where segments name their gateway."""
    return f"event/{hashlib.sha256(source.encode()).hexdigest()[:32]}"


def _read(each: object) -> tuple[CloudEvent, UsageData]:
    if not isinstance(each, Mapping):
        raise _Wrong("an event is a JSON object")
    attributes = {name: value for name, value in each.items() if name != "data"}
    for name in ("specversion", "id", "source", "type", "time"):
        if not isinstance(attributes.get(name), str) or not attributes[name]:
            raise _Wrong(f"the attribute {name} is missing or no text")
    try:
        moment = dt.datetime.fromisoformat(attributes["time"])
        attributes["time"] = moment.astimezone(dt.UTC) if moment.tzinfo else moment
    except (ValueError, OverflowError) as error:
        raise _Wrong(
            "time is not a moment as RFC 3339 writes it, for instance 2026-05-20T14:30:00Z"
        ) from error
    try:
        event = CloudEvent(attributes, each.get("data"))
    except CloudEventValidationError as error:
        problems = "; ".join(str(problem) for found in error.errors.values() for problem in found)
        raise _Wrong(f"not a CloudEvent 1.0: {problems}") from error
    if event.get_type() != TYPE:
        raise _Wrong(f"the type is {event.get_type()!r}; only {TYPE} is taken")
    for name, text, longest in (
        ("id", event.get_id(), _LONGEST_ID),
        ("source", event.get_source(), _LONGEST_SOURCE),
    ):
        if len(text) > longest or not text.isprintable():
            raise _Wrong(f"{name} is longer than {longest} characters or not printable")
    try:
        data = msgspec.convert(event.get_data(), UsageData)
    except msgspec.ValidationError as error:
        raise _Wrong(f"data does not follow {TYPE}: {error}") from error
    if not (data.endpoint.isprintable() and data.key.isprintable()):
        raise _Wrong("endpoint and key are printable text")
    return event, data


def _segment(event: CloudEvent, data: UsageData, project: Project, tenant_id: uuid.UUID) -> EventSegment:
    moment = event.get_time()
    key = data.key if is_uuid(data.key) else str(uuid.uuid5(_KEYS, f"{tenant_id}/{data.key}"))
    return EventSegment(
        tenant_id=str(tenant_id),
        day=moment.date(),
        gateway=source_gateway(event.get_source()),
        sequence=0,
        event=event.get_id(),
        source=event.get_source(),
        key_id=key,
        project_id=str(project.id),
        endpoint_id=str(engine_id(tenant_id, project.id, data.endpoint)),
        revision_id=None,
        model=data.model,
        slo_class=data.slo_class,
        region=data.region,
        outcome=data.outcome,
        window_start=moment,
        window_end=moment,
        requests=data.requests,
        input_tokens=data.input_tokens,
        output_tokens=data.output_tokens,
        cached_tokens=data.cached_tokens,
        input_tokens_squared=_spread(data.input_tokens, data.requests),
        output_tokens_squared=_spread(data.output_tokens, data.requests),
    )


def _spread(tokens: int, requests: int) -> int:
    """Sum the squares of ``tokens`` spread evenly over ``requests``: an event does not tell how they were."""
    each, more = divmod(tokens, requests)
    return (requests - more) * each**2 + more * (each + 1) ** 2


def _check(segment: EventSegment, now: dt.datetime) -> Check:
    return Check(
        gateway=segment.gateway,
        projects={(segment.tenant_id, segment.project_id)},
        now=now,
        retention_days=settings.USAGE_RETENTION_DAYS,
        dropped=dropped_days({segment.day}, today=now.date()),
    )


def _label(named: Iterable[tuple[Project, UsageData]]) -> None:
    """Note what engines are called that are not known yet."""
    tenant_id = scope.current_tenant_id()
    EndpointLabel.objects.bulk_create(
        (
            EndpointLabel(
                tenant_id=tenant_id,
                endpoint_id=engine_id(tenant_id, project.id, data.endpoint),
                project=project,
                name=data.endpoint,
                model=data.model,
                slo_class=data.slo_class,
                external=True,
            )
            for project, data in named
        ),
        ignore_conflicts=True,
    )


def _refusal(position: int, event: Any, reason: str) -> RefusedEvent:
    told = event if isinstance(event, Mapping) else {}
    return RefusedEvent(
        position=position,
        id=_shown(told.get("id", ""), _LONGEST_ID),
        source=_shown(told.get("source", ""), _LONGEST_SOURCE),
        reason=reason,
    )


def _shown(value: object, longest: int) -> str:
    # JSON may spell halves of characters, which no answer can hold.
    return str(value)[:longest].encode(errors="replace").decode()
