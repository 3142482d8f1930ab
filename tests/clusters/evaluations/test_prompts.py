"""Prompts with checks as people write them: what is taken, what is refused and how that is told."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from clusters.endpoints.evaluations.prompts import (
    EXAMPLE,
    MOST_PROMPTS,
    as_yaml,
    checked,
    packed,
    read,
    unpacked,
)
from tenants.errors import Invalid

PROMPT = {"prompt": "2 + 2 =", "checks": [{"equals": "4"}]}


def prompt(**changes):
    return {name: value for name, value in {**PROMPT, **changes}.items() if value is not None}


def test_the_example_explains_every_check_and_survives_being_written_down():
    found = read(EXAMPLE)
    kinds = {check.kind for each in found for check in each.checks}
    assert kinds == {"contains", "not_contains", "equals", "regex", "json_schema", "max_tokens", "similar"}
    assert unpacked(packed(found)) == found
    assert read(as_yaml(found)) == found


def test_yaml_and_json_say_the_same_with_and_without_a_head():
    as_json = '{"prompts": [{"prompt": "2 + 2 =", "checks": [{"equals": "4"}]}]}'
    assert read(as_json) == read("- prompt: 2 + 2 =\n  checks: [{equals: '4'}]") == checked([PROMPT])


@pytest.mark.parametrize(
    ("document", "told"),
    [
        ([], "Give a list of prompts"),
        ("prompts", "Give a list of prompts"),
        ({"prompts": [PROMPT], "more": 1}, "Give a list of prompts"),
        ([PROMPT] * (MOST_PROMPTS + 1), "at most 200"),
        ([PROMPT, prompt(prompt=None)], "Prompt 2: give it either a prompt or messages"),
        ([prompt(messages=[{"role": "user", "content": "a"}])], "either a prompt or messages"),
        ([prompt(prompt="  ")], "is empty"),
        ([prompt(prompt="a\0b")], "NUL"),
        ([prompt(prompt="a" * 32_001)], "longer than 32,000"),
        ([prompt(max_tokens=0)], "max_tokens is not 1 to 4,096"),
        ([prompt(temperature=1)], "unknown field `temperature`"),
        ([prompt(prompt=None, messages=[])], "1 to 50 messages"),
        ([prompt(prompt=None, messages=[{"role": "tool", "content": "a"}])], "Invalid enum value 'tool'"),
        ([prompt(prompt="\ud800")], "half of a surrogate pair"),
        ([prompt(checks=[{"json_schema": {"const": float("nan")}}])], "cannot be kept as JSON"),
        ([prompt(checks=[])], "1 to 20 checks"),
        ([prompt(checks=[{}])], "check 1: give exactly one of contains"),
        ([prompt(checks=[{"contains": "a", "equals": "a"}])], "exactly one"),
        ([prompt(checks=[{"contains": " "}])], "contains wants a text"),
        ([prompt(checks=[{"contains": "a", "weight": 0}])], "weight is not 1 to 100"),
        ([prompt(checks=[{"regex": "a", "ignore_case": True}])], "says (?i) itself"),
        ([prompt(checks=[{"max_tokens": 0}])], "max_tokens is not 1"),
        ([prompt(checks=[{"similar": 1.5}])], "above 0 and at most 1"),
        ([prompt(checks=[{"similar": float("nan")}])], "above 0 and at most 1"),
        ([prompt(checks=[{"regex": "("}])], "regex is wrong"),
        ([prompt(checks=[{"regex": "(?=a)b"}])], "Look-around"),
        ([prompt(checks=[{"regex": "(a)\\1"}])], "back references"),
        ([prompt(checks=[{"regex": "a{1000}{1000}"}])], "too large"),
        ([prompt(checks=[{"regex": "a" * 1_001}])], "longer than 1,000"),
        ([prompt(checks=[{"json_schema": {"type": "thing"}}])], "schema is wrong"),
        ([prompt(checks=[{"json_schema": {"$ref": "http://127.0.0.1/x"}}])], "outside itself"),
        ([prompt(checks=[{"json_schema": {"$ref": "file:///etc/passwd"}}])], "outside itself"),
    ],
)  # fmt: skip
def test_what_is_wrong_is_named(document, told):
    with pytest.raises(Invalid) as refused:
        checked(document)
    assert told in refused.value.message
    assert refused.value.errors == {"prompts": [refused.value.message]}


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("- prompt: [", "in line 1"),
        ("a: &x [1, 1]\nb: *x", "aliases are not known here"),
        ("!!python/object/apply:os.system ['true']", "constructor"),
        ("[" * 5_000, "neither YAML nor JSON"),
        ("x" * 600_000, "longer than 512 KiB"),
    ],
)
def test_text_that_is_no_plain_document_is_refused(text, told):
    with pytest.raises(Invalid) as refused:
        read(text)
    assert told in refused.value.message


def test_days_stay_the_texts_that_they_were_written_as():
    (found,) = read("- prompt: When?\n  checks: [{contains: 2026-11-28}]")
    assert found.checks[0].contains == "2026-11-28"


@settings(deadline=None)
@given(st.text(max_size=200))
def test_whatever_is_written_is_read_or_refused_with_a_message(text):
    with contextlib.suppress(Invalid):
        assert read(text)
