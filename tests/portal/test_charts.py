"""Figures are plain, and say what the rows say."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

from django.contrib.staticfiles import finders

from portal.charts import (
    Point,
    Share,
    axis_of,
    axis_of_days,
    daily_card,
    lines_card,
    ranked_card,
    series_card,
    strip,
    utilization_card,
    utilization_map,
)
from portal.charts.bars import REST, by_group, stacked_bars

DAYS = [dt.date(2025, 3, day) for day in (1, 2, 3)]
AXIS = axis_of_days(DAYS)


def bars(points, unit="x", axis=AXIS):
    return stacked_bars(by_group(points), axis=axis, unit=unit)


def test_bars_stack_groups_over_the_days():
    points = [
        Point(DAYS[0], "small", Decimal("0.5")),
        Point(DAYS[2], "large", 7),
        Point(DAYS[2], "large", 1),
    ]
    figure = bars(points, "GPU-hours")
    assert [trace["name"] for trace in figure["data"]] == ["large", "small"]
    assert figure["data"][0]["x"] == ["2025-03-01", "2025-03-02", "2025-03-03"]
    assert figure["data"][0]["y"] == [0, 0, 8]
    assert figure["data"][1]["y"] == [0.5, 0, 0]
    assert figure["layout"]["barmode"] == "stack"
    assert figure["layout"]["yaxis"]["title"]["text"] == "GPU-hours"


def test_figures_are_plain_json_without_a_theme_of_their_own():
    figure = bars([Point(DAYS[0], "a", Decimal(1))])
    assert json.loads(json.dumps(figure)) == figure
    assert "template" not in figure["layout"]
    assert "color" not in json.dumps(figure)


def test_beyond_eight_groups_the_smallest_become_one():
    points = [Point(DAYS[0], f"tenant {number}", number) for number in range(1, 12)]
    traces = bars(points)["data"]
    assert [trace["name"] for trace in traces] == [*(f"tenant {n}" for n in range(11, 4, -1)), REST]
    assert traces[-1]["y"][0] == 1 + 2 + 3 + 4


def test_names_that_people_chose_are_shown_as_they_are():
    figure = bars([Point(DAYS[0], "<b>A & B</b>", 1)])
    assert figure["data"][0]["name"] == "&lt;b&gt;A &amp; B&lt;/b&gt;"


def test_a_card_tells_the_same_as_a_table():
    points = [Point(DAYS[0], "a", Decimal("1234.5")), Point(DAYS[1], "b", 2)]
    card = daily_card(id="c", title="Held", points=points, days=DAYS, unit="GPU-hours")
    assert card["columns"] == ["Day", "a", "b", "All"]
    assert card["rows"] == [
        ["2025-03-03", "0", "0", "0"],
        ["2025-03-02", "0", "2", "2"],
        ["2025-03-01", "1,234.5", "0", "1,234.5"],
    ]
    assert card["summary"] == "1,236.5 GPU-hours in 3 days; most on 2025-03-01: 1,234.5 GPU-hours."


def test_a_card_as_csv_holds_the_numbers_as_they_are_in_order_of_time():
    points = [Point(DAYS[0], "a", Decimal("1234.56789")), Point(DAYS[1], "b", 2)]
    card = daily_card(id="c", title="Held", points=points, days=DAYS, unit="x")
    assert card["csv"] == [
        ["Day", "a", "b", "All"],
        ["2025-03-01", Decimal("1234.56789"), 0, Decimal("1234.56789")],
        ["2025-03-02", 0, 2, 2],
        ["2025-03-03", 0, 0, 0],
    ]


def test_groups_come_in_the_order_that_is_asked_for():
    points = [Point(DAYS[0], "big", 9), Point(DAYS[0], "Output", 1), Point(DAYS[0], "Input", 2)]
    card = series_card(id="c", title="t", points=points, axis=AXIS, unit="x", order=["Input", "Output"])
    assert card["columns"] == ["Day", "Input", "Output", "big", "All"]


def test_months_are_named_by_the_zone_they_are_of():
    moment = dt.datetime(2025, 4, 30, 22, tzinfo=dt.UTC)
    assert axis_of([moment], "1M", "Europe/Berlin").labels == ("2025-05",)
    assert axis_of([moment], "1h", "Europe/Berlin").labels == ("2025-04-30 22:00",)


def test_lines_have_gaps_and_targets():
    card = lines_card(
        id="l", title="First token", lines={"p50": [100, None, 120.5], "p95": [None, None, 480]}, axis=AXIS,
        unit="ms", targets={"Target": 500},
    )  # fmt: skip
    median, _, target = card["figure"]["data"]
    assert (median["y"], median["connectgaps"]) == ([100, None, 120.5], False)
    assert target["y"] == [500, 500, 500]
    assert card["rows"] == [["2025-03-03", "120.5", "480"], ["2025-03-01", "100", "–"]]
    assert card["summary"] == "p50 100 to 120.5 ms; p95 480 to 480 ms; Target 500 ms."
    assert card["csv"][2] == ["2025-03-02", None, None]
    assert lines_card(id="l", title="t", lines={"p50": [None] * 3}, axis=AXIS, unit="ms") is None


def test_a_ranking_draws_the_first_and_tells_all():
    things = [f"endpoint {number}" for number in range(30)]
    card = ranked_card(
        id="r", title="t", things=things, series={"GPU time": [Decimal(n) for n in range(30)]}, unit="EUR",
        thing="Endpoint",
    )  # fmt: skip
    assert len(card["figure"]["data"][0]["y"]) == 12
    assert (len(card["rows"]), card["note"]) == (30, "18 more in the table")


def test_a_long_name_is_cut_in_the_legend_only_and_keeps_its_end():
    card = daily_card(id="c", title="t", points=[Point(DAYS[0], f"{'n' * 60}-07", 1)], days=DAYS, unit="x")
    assert card["figure"]["data"][0]["name"] == f"{'n' * 11}…{'n' * 7}-07"
    assert card["columns"][1] == f"{'n' * 60}-07"


def test_a_strip_tells_days_apart_by_height():
    found = strip([True, False, None, True])
    assert found["paths"]["kept"] == "M0.00 100v-100h20.00v100zM75.00 100v-100h20.00v100z"
    assert found["paths"]["missed"] == "M25.00 100v-45h20.00v45z"
    assert found["text"] == "2 bars kept, 1 bar missed, 1 bar no requests"
    assert strip([]) == {"paths": {}, "text": ""}


def test_where_there_is_nothing_there_is_no_chart():
    assert daily_card(id="c", title="t", points=[], days=DAYS, unit="x") is None
    assert daily_card(id="c", title="t", points=[Point(DAYS[0], "a", 0)], days=DAYS, unit="x") is None
    assert utilization_card(id="c", title="t", shares=[], days=DAYS, things=["a"]) is None


def test_a_utilization_map_has_a_row_per_thing_and_a_column_per_day():
    shares = [Share(DAYS[0], "de-a h100", 0.5), Share(DAYS[2], "fi-a l4", 1.0)]
    figure = utilization_map(shares, days=DAYS, things=["de-a h100", "fi-a l4"])
    trace = figure["data"][0]
    assert trace["type"] == "heatmap"
    assert trace["y"] == ["de-a h100", "fi-a l4"]
    assert trace["z"] == [[50.0, 0.0, 0.0], [0.0, 0.0, 100.0]]
    assert (trace["zmin"], trace["zmax"]) == (0, 100)
    card = utilization_card(id="c", title="t", shares=shares, days=DAYS, things=["de-a h100", "fi-a l4"])
    assert card["rows"][0] == ["2025-03-03", "0%", "100%"]
    assert card["summary"] == "Busiest: fi-a l4 on 2025-03-03 with 100%."


def test_days_are_labelled_sparsely():
    month = [dt.date(2025, 3, 1) + dt.timedelta(days=n) for n in range(30)]
    axis = bars([Point(month[0], "a", 1)], axis=axis_of_days(month))["layout"]["xaxis"]
    assert axis["dtick"] == 3 * 86_400_000


def test_plotly_is_served_from_its_package_and_nothing_else_of_it():
    assert finders.find("plotly/plotly.min.js").endswith("package_data/plotly.min.js")
    assert finders.find("plotly/datasets/iris.csv.gz") is None
    assert finders.find("plotly/../plotly.min.js") is None
    listed = [
        f"{storage.prefix}/{path}"
        for finder in finders.get_finders()
        for path, storage in finder.list([])
        if getattr(storage, "prefix", None) == "plotly"
    ]
    assert listed == ["plotly/plotly.min.js"]
