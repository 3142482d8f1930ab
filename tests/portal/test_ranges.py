"""The range control: what an address asks for, in which buckets, and the addresses of its neighbours."""

from __future__ import annotations

import datetime as dt

import pytest

from billing.buckets import Width, buckets
from portal.pages.filters import Address, Filter, filter_bar, picked
from portal.pages.ranges import range_control, span_of

NOW = dt.datetime(2026, 5, 20, 14, 30, tzinfo=dt.UTC)


def utc(text: str) -> dt.datetime:
    return dt.datetime.fromisoformat(text).replace(tzinfo=dt.UTC)


@pytest.mark.parametrize(
    ("asked", "start", "end", "width", "number"),
    [
        ({}, "2026-04-21", NOW.isoformat()[:16], Width.DAY, 30),
        ({"range": "24h"}, "2026-05-19T15:00", NOW.isoformat()[:16], Width.HOUR, 24),
        ({"range": "7d"}, "2026-05-14", NOW.isoformat()[:16], Width.DAY, 7),
        ({"range": "7d", "bucket": "1h"}, "2026-05-14", NOW.isoformat()[:16], Width.HOUR, 6 * 24 + 15),
        ({"range": "90d", "bucket": "1M"}, "2026-02-20", NOW.isoformat()[:16], Width.MONTH, 4),
        ({"range": "month"}, "2026-04-30T22:00", NOW.isoformat()[:16], Width.DAY, 21),
        ({"range": "last-month"}, "2026-03-31T22:00", "2026-04-30T22:00", Width.DAY, 31),
        ({"range": "12m"}, "2025-05-31T22:00", NOW.isoformat()[:16], Width.MONTH, 12),
        ({"from": "2026-05-01", "to": "2026-05-03"}, "2026-05-01", "2026-05-04", Width.DAY, 3),
        ({"from": "2026-05-20", "to": "2026-05-20"}, "2026-05-20", NOW.isoformat()[:16], Width.HOUR, 15),
        ({"range": "custom", "from": "2026-05-18"}, "2026-05-18", NOW.isoformat()[:16], Width.DAY, 3),
    ],
)  # fmt: skip
def test_spans(asked, start, end, width, number):
    span = span_of(asked, NOW, "Europe/Berlin")
    assert (span.start, span.end, span.width, span.problem) == (utc(start), utc(end), width, "")
    assert len(span.intervals) == len(span.axis.labels) == number
    assert (span.intervals[0][0], span.intervals[-1][1]) == (span.start, span.end)
    again = span_of(span.query, NOW, "Europe/Berlin")
    assert (again.start, again.end, again.width) == (span.start, span.end, span.width)


@pytest.mark.parametrize(
    ("asked", "told"),
    [
        ({"range": "forever"}, "no span called 'forever'"),
        ({"from": "yesterday"}, "year-month-day"),
        ({"from": "2026-05-03", "to": "2026-05-01"}, "before the first"),
        ({"from": "2026-06-03"}, "future"),
        ({"from": "2020-01-01"}, "At most 400 days"),
        ({"from": "0001-01-01", "to": "9999-12-31"}, "instance 2026-05-31"),
        ({"to": "2026-05-03"}, "instance 2026-05-31"),
        ({"range": "custom"}, "Choose a first day"),
        ({"bucket": "1h"}, "cannot be shown by '1h'; it can by 1d"),
        ({"range": "7d", "bucket": "fortnight"}, "it can by 1h or 1d"),
    ],
)
def test_a_wrong_span_says_what_is_wrong_and_shows_the_usual(asked, told):
    span = span_of(asked, NOW)
    assert told in span.problem
    assert span.start < span.end


def test_the_first_instant_of_a_month_is_a_span():
    span = span_of({"range": "month"}, utc("2026-04-30T22:00"), "Europe/Berlin")
    assert span.start < span.end


def test_days_of_clock_changes_are_whole_days_of_utc_in_months_of_the_zone():
    march = buckets(utc("2026-02-28T23:00"), utc("2026-03-31T22:00"), Width.MONTH, "Europe/Berlin")
    assert march == [(utc("2026-02-28T23:00"), utc("2026-03-31T22:00"))]
    days = buckets(utc("2026-03-28"), utc("2026-03-31"), Width.DAY, "Europe/Berlin")
    assert {end - start for start, end in days} == {dt.timedelta(days=1)}


def test_neighbours_keep_the_filters_and_drop_the_other_span():
    asked = {"range": "custom", "from": "2026-05-01", "to": "2026-05-03", "project": "p"}
    address = Address(path="/usage", asked=asked)
    control = range_control(span_of(asked, NOW), address.over)
    assert control["custom"]
    assert {item["label"]: item["url"] for item in control["items"]}["7 days"] == "/usage?project=p&range=7d"
    assert [item["current"] for item in control["widths"]] == [False, True]
    assert (
        control["widths"][0]["url"] == "/usage?project=p&range=custom&from=2026-05-01&to=2026-05-03&bucket=1h"
    )


def test_filters_are_chips_that_can_be_taken_back():
    address = Address(path="/usage", asked={"range": "7d", "project": "p", "key": "k", "group": "model"})
    filters = [
        Filter(name="project", label="Project", choices=[("p", "Search"), ("q", "Chat")], value="p", everything="All"),
        Filter(name="key", label="Key", choices=[("k", "CI")], value="k", everything="All"),
        Filter(name="group", label="Group by", choices=[("model", "Model"), ("key", "Key")], value="model"),
        Filter(name="model", label="Model", choices=[("m", "m")], everything="All"),
    ]  # fmt: skip
    bar = filter_bar(filters, address)
    assert [chip["value"] for chip in bar["chips"]] == ["Search", "CI"]
    assert bar["chips"][0]["url"] == "/usage?range=7d&key=k&group=model"
    assert bar["clear_url"] == "/usage?range=7d&group=model"
    assert bar["hidden"] == [{"name": "range", "value": "7d"}]
    assert [each.name for each in bar["filters"]] == ["project", "key", "group"]  # one model leaves no choice


def test_what_is_no_choice_is_told():
    assert picked("x", [("p", "Search")], "project") == ("", "There is no such project: it is left out.")
    assert picked("", [("p", "Search")], "project") == ("", "")
