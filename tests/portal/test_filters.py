"""Numbers in people's words."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

import pytest

from portal.templatetags import berth


@pytest.mark.parametrize(
    ("amount", "text"),
    [
        ("0", "0.00"), ("2.5", "2.50"), ("0.45", "0.45"), ("0.5625", "0.5625"), ("1.125", "1.125"), ("12.346", "12.35"),
        ("1234567.8", "1,234,567.80"), ("0.0083", "0.0083"), ("0.000043", "0.000043"), (None, "–"), ("nan", "–"),
    ],
)  # fmt: skip
def test_money(amount, text):
    assert berth.money(amount and Decimal(amount)) == text


def test_memory_is_told_apart_and_what_is_missing_says_so():
    told = berth.memory_parts({"weights": 15 * 2**30, "kv_used": 2**29, "kv_max": 2**31, "other": 0})
    assert told == [("Weights", "15.0 GiB"), ("KV cache used", "0.5 GiB of 2.0 GiB"), ("Other", "0.0 GiB")]
    for nothing in (None, {}):
        assert {text for _, text in berth.memory_parts(nothing)} == {"not available"}
    assert ("KV cache used", "not available of 2.0 GiB") in berth.memory_parts({"kv_max": 2**31})


def test_permissions_are_gathered_by_what_they_are_on():
    missing = ["get nodes", "list nodes", "list pods in all namespaces"]
    assert berth.by_resource(missing) == ["get, list nodes", "list pods in all namespaces"]


def test_a_trouble_that_nobody_knows_is_still_said():
    assert berth.trouble("ImagePull") == "Its image cannot be pulled"
    assert (berth.trouble("SolarFlare"), berth.remedy("SolarFlare")) == ("SolarFlare", "")


def test_money_names_its_currency():
    assert berth.money(Decimal("2"), "EUR") == "2.00 EUR"


@pytest.mark.parametrize(
    ("number", "text"),
    [(0, "0"), (950, "950"), (12_345, "12.3k"), (999_999, "1M"), (8_030_261_248, "8B"), (None, "–")],
)
def test_short(number, text):
    assert berth.short(number) == text


@pytest.mark.parametrize(("value", "text"), [(0.24, "0.2 ms"), (40, "40 ms"), (1500, "1.5 s"), (None, "–")])
def test_milliseconds(value, text):
    assert berth.ms(value) == text


@pytest.mark.parametrize(
    ("seconds", "text"), [(0, "0 s"), (119, "119 s"), (300, "5 min"), (7200, "2 h"), (200_000, "2 d")]
)
def test_duration(seconds, text):
    assert berth.duration(dt.timedelta(seconds=seconds)) == text


def test_words_and_places():
    assert berth.words("slo_class") == "SLO class"
    assert berth.residency("zone:EU") == "Zone EU"
    assert berth.residency("global") == "Anywhere"
    assert berth.percent(Decimal("0.995")) == "99.5 %"
