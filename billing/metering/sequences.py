"""Which sequences of each gateway came, and which are missing between them.

A gateway numbers its segments without gaps and ships them in order, so that a number which stays missing while later
ones are there is usage that was lost on the way. The numbers seen advance in the transaction that counts their
segments.
"""

from __future__ import annotations

import datetime as dt
from collections.abc import Collection
from typing import Final

from django.db import connection, transaction
from django.db.models import Q

from billing.models import SequenceGap

#: A gap younger than this may still fill: batches of one gateway that were sent again pass one another.
SETTLED: Final = dt.timedelta(minutes=5)

_SEE = """
INSERT INTO billing_gatewaysequence (gateway, seen, counted_at)
SELECT gateway, range_agg(int8range(sequence, sequence, '[]')), %(now)s
FROM billing_usagesegment WHERE xact >= %(mark)s AND xact < %(end)s AND event = ''
    AND sequence < 9223372036854775807  -- which no range can hold
GROUP BY gateway
ON CONFLICT (gateway) DO UPDATE SET
    seen = billing_gatewaysequence.seen + excluded.seen, counted_at = excluded.counted_at
"""
# What was refused has come, too, and is kept.
_HOLES = """
SELECT gateway, lower(hole), upper(hole) - 1
FROM billing_gatewaysequence AS known, unnest(
    int8multirange(int8range(1, greatest(upper(seen), 1))) - seen - coalesce((
        SELECT range_agg(int8range(sequence, sequence, '[]')) FROM billing_usagerefusal AS refusal
        WHERE refusal.gateway = known.gateway AND sequence < 9223372036854775807
    ), int8multirange())) AS hole
WHERE gateway = ANY(%(gateways)s)
"""


def advance(*, mark: int, end: int, gateways: Collection[str], now: dt.datetime) -> None:
    """Note the sequences of the segments of transactions from ``mark`` up to before ``end``, and what is missing then.

    ``gateways`` are those whose segments they are. To be called in the transaction that counts them.
    """
    known = list(SequenceGap.objects.all())
    touched = {*gateways, *(gap.gateway for gap in known)}
    if not touched:
        return
    with connection.cursor() as cursor:
        if gateways:
            cursor.execute(_SEE, {"mark": mark, "end": end, "now": now})
        cursor.execute(_HOLES, {"gateways": sorted(touched)})
        holes = set(cursor.fetchall())
    stale = [gap for gap in known if (gap.gateway, gap.first, gap.last) not in holes]
    new = holes - {(gap.gateway, gap.first, gap.last) for gap in known}
    if stale:
        SequenceGap.objects.filter(id__in=[gap.id for gap in stale]).delete()
    # What is left of a gap is as old as the gap.
    SequenceGap.objects.bulk_create(
        SequenceGap(
            gateway=gateway,
            first=first,
            last=last,
            noticed_at=min(
                (
                    gap.noticed_at
                    for gap in stale
                    if gap.gateway == gateway and gap.first <= last and first <= gap.last
                ),
                default=now,
            ),
        )
        for gateway, first, last in sorted(new)
    )


def gaps_of(gateway: str) -> list[SequenceGap]:
    """Give the gaps of all instances of a gateway. To be called in the platform's scope."""
    return list(SequenceGap.objects.filter(Q(gateway=gateway) | Q(gateway__startswith=f"{gateway}/")))


def settled_gaps(*, now: dt.datetime, gateway: str = "") -> list[SequenceGap]:
    """Give the gaps that have stayed for :data:`SETTLED`, of one gateway's instances or all.

    To be called in the platform's scope.
    """
    found = gaps_of(gateway) if gateway else list(SequenceGap.objects.all())
    return [gap for gap in found if gap.noticed_at <= now - SETTLED]


@transaction.atomic
def gap_accept(*, gap: SequenceGap) -> None:
    """Take what is missing for lost: the gap is told no more, and what comes after all is still counted."""
    with connection.cursor() as cursor:
        cursor.execute(
            "UPDATE billing_gatewaysequence SET seen = seen + int8multirange(int8range(%s, %s, '[]'))"
            " WHERE gateway = %s",
            [gap.first, gap.last, gap.gateway],
        )
    SequenceGap.objects.filter(id=gap.id).delete()
