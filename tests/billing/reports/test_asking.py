"""Questions to reports: whole buckets, the width that fits, what is refused."""

from __future__ import annotations

import datetime as dt

import pytest

from billing.buckets import Width
from billing.reports.asking import Dimension, ask
from tenants.errors import Invalid

END = dt.datetime(2026, 6, 2, 10, 30, tzinfo=dt.UTC)
DAY = dt.timedelta(days=1)


@pytest.mark.parametrize(
    ("width", "start", "end", "buckets"),
    [
        (Width.HOUR, "2026-06-01T09:00", "2026-06-02T11:00", 26),
        (Width.DAY, "2026-06-01T00:00", "2026-06-03T00:00", 2),
        (Width.MONTH, "2026-06-01T00:00", "2026-07-01T00:00", 1),
    ],
)
def test_spans_are_widened_to_whole_buckets(width, start, end, buckets):
    asked = ask(start=END - dt.timedelta(hours=25, minutes=30), end=END, width=width)
    assert (f"{asked.start:%Y-%m-%dT%H:%M}", f"{asked.end:%Y-%m-%dT%H:%M}") == (start, end)
    assert len(asked.buckets) == buckets


def test_buckets_of_months_follow_the_calendar():
    asked = ask(start=END - 400 * DAY, end=END, width=Width.MONTH)
    assert [f"{each:%Y-%m}" for each in asked.buckets[:3]] == ["2025-04", "2025-05", "2025-06"]
    assert len(asked.buckets) == 15


@pytest.mark.parametrize(
    ("days", "group_by", "tenant", "width"),
    [
        (1, (Dimension.CLUSTER,), None, Width.HOUR),
        (1, (Dimension.TENANT,), None, Width.DAY),
        (1, (Dimension.ENDPOINT,), "t", Width.HOUR),
        (30, (Dimension.CLUSTER,), None, Width.DAY),
        (30, (Dimension.ENDPOINT,), None, Width.DAY),
        (90, (Dimension.ENDPOINT,), None, Width.MONTH),
        (90, (Dimension.ENDPOINT,), "t", Width.DAY),
        (365, (Dimension.CLUSTER,), None, Width.MONTH),
        (365, (), None, Width.DAY),
        (900, (), None, Width.MONTH),
    ],
)
def test_the_finest_width_that_can_be_told_is_chosen(days, group_by, tenant, width):
    narrowed = {"tenant_id": tenant} if tenant else {}
    assert ask(start=END - days * DAY, end=END, group_by=group_by, narrowed=narrowed).width == width


@pytest.mark.parametrize(
    ("facts", "told"),
    [
        ({"start": END}, "start must be before"),
        ({"start": END - 2_000 * DAY}, "at most 1100 days"),
        ({"start": END - 9 * DAY, "width": "1h"}, "at most 8 days"),
        ({"start": END - 500 * DAY, "width": "1d"}, "at most 400 days"),
        (
            {"start": END - 40 * DAY, "width": "1d", "group_by": (Dimension.PROJECT,)},
            "35 days of all tenants",
        ),
        ({"start": END - DAY, "width": "1h", "group_by": (Dimension.MODEL,)}, "choose a tenant"),
        ({"start": END - 200 * DAY, "width": "1d", "group_by": (Dimension.POOL,)}, "At most 1,300 points"),
        ({"start": END - DAY, "width": "1m"}, "no width of a bucket"),
        ({"start": END - DAY, "most": 101}, "1 to 100 groups"),
    ],
)
def test_what_cannot_be_told_is_refused_with_what_to_choose(facts, told):
    with pytest.raises(Invalid, match=told):
        ask(**{"end": END, **facts})


def test_fewer_groups_are_told_for_longer():
    asked = ask(start=END - 365 * DAY, end=END, width=Width.DAY, group_by=(Dimension.POOL,), most=2)
    assert len(asked.buckets) == 366
