"""What both doors show of revisions: each in short, its configuration, what it changed, how to restore it."""

from __future__ import annotations

from typing import Any

from django.db.models import QuerySet

from clusters.endpoints import selectors
from clusters.models import Endpoint, Revision, Wanted
from portal.pages.endpoints import revision_price
from portal.templatetags.berth import money
from tenants.errors import NotFound

_KINDS = {"+": "add", "-": "del", "@": "hunk"}


def revision_state(revision: Revision) -> str:
    """Give a revision's badge."""
    if revision.cleaned_at:
        return "gone"
    return "draining" if revision.retired_at else "active"


def may_be_restored(endpoint: Endpoint, revision: Revision) -> bool:
    """Say whether a revision can be run again: an earlier one of an endpoint that runs."""
    return endpoint.wanted == Wanted.RUNNING and revision.retired_at is not None and bool(revision.spec)


def find_revision(endpoint: Endpoint, number: int, *, among: QuerySet[Revision] | None = None) -> Revision:
    """Find a revision of an endpoint by its number, ``among`` those that may be shown (default: all).

    Raises:
        NotFound: there is none.
    """
    rows = selectors.endpoint_revisions(endpoint)
    if among is not None:
        rows = rows.filter(id__in=among.values("id"))
    revision = rows.filter(number=number).first()
    if revision is None:
        raise NotFound("There is no such revision.")
    return revision


def configuration_context(
    endpoint: Endpoint, revision: Revision, against: str, *, among: QuerySet[Revision] | None = None
) -> dict[str, Any]:
    """Give what a revision's page shows: facts, documents, and what changed against another revision.

    ``against`` is the number asked for; otherwise the revision before is taken. ``among`` are those that may be shown
    (default: all).
    """
    rows = Revision.objects.all() if among is None else among
    others = list(rows.filter(endpoint=endpoint).exclude(id=revision.id).values_list("number", flat=True))
    earlier = max((number for number in others if number < revision.number), default=None)
    chosen = int(against) if against.isdecimal() and len(against) < 9 and int(against) in others else earlier
    documents = selectors.revision_configuration(revision)
    changes: list[dict[str, Any]] = []
    if chosen is not None:
        before = selectors.revision_configuration(find_revision(endpoint, chosen))
        changes = [
            {"name": name, "lines": diff_lines(text)}
            for name, text in selectors.configuration_diff(before, documents)
        ]
    return {
        "revision": revision,
        "state": revision_state(revision),
        "facts": revision_facts(revision),
        "others": sorted(others, reverse=True),
        "against": chosen,
        "changes": changes,
        "documents": [
            {"id": f"document-{position}", "name": name, "text": text}
            for position, (name, text) in enumerate(documents.items(), 1)
        ],
        "restorable": may_be_restored(endpoint, revision),
    }


def revision_facts(revision: Revision) -> list[dict[str, Any]]:
    """Give how a revision runs its model."""
    image = (revision.spec or {}).get("image") or {}
    return [
        {"label": "Cluster", "value": f"{revision.cluster.name} ({revision.cluster.region.code})"},
        {"label": "GPUs", "value": f"{revision.replicas} x {revision.gpus_per_replica} {revision.gpu_type}"},
        {"label": "Runtime", "value": revision.runtime, "code": True},
        {
            "label": "Shape",
            "value": f"{revision.precision}, tensor parallel {revision.tensor_parallel}, "
            f"pipeline parallel {revision.pipeline_parallel}, batches of {revision.max_batch_size}",
        },
        {"label": "Context", "value": f"{revision.context_tokens:,} tokens"},
        {"label": "Image", "value": image.get("reference") or "none", "code": bool(image)},
        *(
            [{"label": "Copied from", "value": f"revision {revision.restored_from}"}]
            if revision.restored_from
            else []
        ),
    ]


def diff_lines(text: str) -> list[dict[str, str]]:
    """Give the lines of a unified diff, each with its kind: ``add``, ``del``, ``hunk`` or none."""
    lines = [line for line in text.splitlines() if not line.startswith(("--- ", "+++ "))]
    return [{"kind": _KINDS.get(line[:1], ""), "text": line} for line in lines]


def restore_consequences(endpoint: Endpoint, revision: Revision, currency: str) -> list[str]:
    """Say what restoring a revision does."""
    lines = [
        f"A new revision is made with the configuration of revision {revision.number}: "
        "its image, precision, parallelism and engine settings as they were then.",
        "What runs now serves until the new one is ready; then its GPUs are released.",
        "For as long as both are there, both are charged.",
    ]
    price = revision_price(revision)
    if price is not None:
        lines.append(f"It is planned at {money(price, currency)} per hour.")
    return lines
