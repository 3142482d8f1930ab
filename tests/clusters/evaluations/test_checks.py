"""Judging answers: each check says yes and no, tells no text, and scores follow from weights."""

from __future__ import annotations

import time
from decimal import Decimal

import pytest

from clusters.endpoints.evaluations.checks import Answer, judge, likeness, unanswered
from clusters.endpoints.evaluations.prompts import checked
from clusters.endpoints.evaluations.scores import Threshold, points, shortfall

SCHEMA = {"type": "object", "required": ["n"], "properties": {"n": {"type": "integer"}}}


def judged(check, text, *, tokens=3, other=None):
    (prompt,) = checked([{"prompt": "?", "checks": [check]}])
    (found,) = judge(prompt, Answer(text, 5, tokens), other=None if other is None else Answer(other))
    return found


@pytest.mark.parametrize(
    ("check", "good", "bad"),
    [
        ({"contains": "Paris"}, "It is Paris.", "It is paris."),
        ({"contains": "Paris", "ignore_case": True}, "PARIS", "Lyon"),
        ({"not_contains": "Lyon"}, "Paris", "not Lyon"),
        ({"not_contains": "LYON", "ignore_case": True}, "Paris", "not Lyon"),
        ({"equals": " 4 "}, "\n4 ", "4."),
        ({"equals": "STRASSE", "ignore_case": True}, "straße", "gasse"),
        ({"regex": "^\\d+ pens?$"}, "12 pens", "12 pens and"),
        ({"regex": "(?i)b+"}, "aBBa", "aca"),
        ({"json_schema": SCHEMA}, '{"n": 3}', '{"n": "secret"}'),
        ({"json_schema": SCHEMA}, ' {"n": 0, "m": 1}\n', "n is 3"),
        ({"json_schema": {"const": 1}}, "1", "[" * 100_000),
        ({"json_schema": {"maximum": 1}}, "0.5", "1e400"),
        ({"json_schema": {"maximum": 1}}, "1", "NaN"),
    ],
)
def test_a_check_says_yes_and_no(check, good, bad):
    assert judged(check, good).passed is True
    assert judged(check, good).reason == ""
    lost = judged(check, bad)
    assert lost.passed is False
    assert lost.reason
    assert "secret" not in lost.reason


def test_long_answers_are_told_with_their_length():
    assert judged({"max_tokens": 3}, "a b c").passed
    assert judged({"max_tokens": 2}, "a b c").reason == "the answer has 3 tokens, at most 2 may be"


def test_likeness_needs_an_answer_of_before():
    check = {"similar": 0.6}
    assert judged(check, "the red pens").passed is None
    assert judged(check, "the red pens", other="the blue pens").passed is True
    assert judged(check, "the red pens", other="a green pen").reason == (
        "likeness 0.00 with the old revision's answer, at least 0.6 is wanted"
    )
    assert likeness("", " ") == 1


def test_a_pattern_and_a_likeness_of_anybody_take_no_time():
    began = time.process_time()
    assert judged({"regex": "^(a+)+$"}, "a" * 30_000 + "b").passed is False
    assert judged({"json_schema": {"pattern": "^(a|a)*$"}}, '"' + "a" * 30_000 + 'b"').passed is False
    assert judged({"similar": 1}, "a " * 50_000, other="b " * 50_000).passed is False
    assert time.process_time() - began < 5


def results(*rows):
    """Build results of (weight, passed, passed before) for each check of a prompt."""
    return [
        {
            "checks": [{"weight": weight, "passed": new} for weight, new, _ in rows],
            "before": [{"weight": weight, "passed": old} for weight, _, old in rows],
        }
    ]


def test_a_score_is_the_share_of_the_weights_and_never_rounded_up():
    found = results((1, True, None), (1, True, None), (1, False, None), (7, None, None))
    assert points(found, "checks").percent == Decimal("66.66")
    assert points([], "checks").percent is None
    assert points(found, "before").percent is None


@pytest.mark.parametrize(
    ("percent", "drop", "rows", "told"),
    [
        ("100", None, [(1, True, None)], ""),
        ("100", None, [(1, True, None), (99, True, None), (1, False, None)], "The score is 99.00 %"),
        ("50", None, [(1, True, None), (1, False, None)], ""),
        (None, "10", [(9, True, True), (1, False, True)], ""),
        (None, "5", [(9, True, True), (1, False, True)], "the old revision's 100.00 %: more than 5 points"),
        (None, "0", [(1, False, False), (1, True, True)], ""),
        (None, "0", [(1, True, True), (1, False, None)], ""),
        (None, "0", [(1, False, None), (1, True, None)], "could not be compared with the old revision"),
        ("50", "0", [(1, False, None), (1, True, None)], "could not be compared with the old revision"),
        ("60", "0", [(1, False, None), (1, True, None)], "at least 60 % is demanded"),
        ("10", None, [(1, None, None)], "No check could be judged."),
    ],
)  # fmt: skip
def test_a_score_is_held_against_both_demands(percent, drop, rows, told):
    threshold = Threshold(
        pass_percent=None if percent is None else Decimal(percent),
        most_drop=None if drop is None else Decimal(drop),
    )
    why = shortfall(threshold, results(*rows))
    assert told in why
    assert bool(why) == bool(told)


def test_a_prompt_that_is_refused_passes_nothing():
    (prompt,) = checked([{"prompt": "?", "checks": [{"not_contains": "a"}, {"max_tokens": 1}]}])
    assert [each.passed for each in unanswered(prompt, "refused: 400 x")] == [False, False]
