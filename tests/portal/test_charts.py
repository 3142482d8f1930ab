"""Figures are plain, and say what the rows say."""

from __future__ import annotations

import datetime as dt
import json
from decimal import Decimal

from django.contrib.staticfiles import finders

from portal.charts import Point, Share, daily_bars, daily_card, utilization_card, utilization_map
from portal.charts.bars import REST

DAYS = [dt.date(2025, 3, day) for day in (1, 2, 3)]


def test_bars_stack_groups_over_the_days():
    points = [
        Point(DAYS[0], "small", Decimal("0.5")),
        Point(DAYS[2], "large", 7),
        Point(DAYS[2], "large", 1),
    ]
    figure = daily_bars(points, days=DAYS, unit="GPU-hours")
    assert [trace["name"] for trace in figure["data"]] == ["large", "small"]
    assert figure["data"][0]["x"] == ["2025-03-01", "2025-03-02", "2025-03-03"]
    assert figure["data"][0]["y"] == [0, 0, 8]
    assert figure["data"][1]["y"] == [0.5, 0, 0]
    assert figure["layout"]["barmode"] == "stack"
    assert figure["layout"]["yaxis"]["title"]["text"] == "GPU-hours"


def test_figures_are_plain_json_without_a_theme_of_their_own():
    figure = daily_bars([Point(DAYS[0], "a", Decimal(1))], days=DAYS, unit="x")
    assert json.loads(json.dumps(figure)) == figure
    assert "template" not in figure["layout"]
    assert "color" not in json.dumps(figure)


def test_beyond_six_groups_the_smallest_become_one():
    points = [Point(DAYS[0], f"tenant {number}", number) for number in range(1, 10)]
    traces = daily_bars(points, days=DAYS, unit="x")["data"]
    assert [trace["name"] for trace in traces] == [
        "tenant 9",
        "tenant 8",
        "tenant 7",
        "tenant 6",
        "tenant 5",
        REST,
    ]
    assert traces[-1]["y"][0] == 1 + 2 + 3 + 4


def test_names_that_people_chose_are_shown_as_they_are():
    figure = daily_bars([Point(DAYS[0], '<a href="javascript:x">A & B</a>', 1)], days=DAYS, unit="x")
    assert figure["data"][0]["name"] == '&lt;a href="javascript:x"&gt;A &amp; B&lt;/a&gt;'


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
    axis = daily_bars([Point(month[0], "a", 1)], days=month, unit="x")["layout"]["xaxis"]
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
