"""Reading documents: strictly, with lines, and nothing that grows or makes objects."""

from __future__ import annotations

from decimal import Decimal

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from portal.configuration.documents import MOST_BYTES, read_values, read_yaml
from portal.configuration.problems import Unusable
from portal.configuration.writing import plain, to_yaml

HEAD = "apiVersion: berth/v1\nkind: Endpoint\nmetadata: {name: chat}\n"


def spec_of(text: str) -> dict:
    (document,) = read_yaml(f"{HEAD}spec:\n  {text}\n", source="a.yaml")
    return dict(document.spec)


def refusal(text: str | bytes) -> str:
    with pytest.raises(Unusable) as refused:
        read_yaml(text, source="a.yaml")
    return str(refused.value)


@pytest.mark.parametrize(
    ("text", "value"),
    [
        ("a: no", "no"),
        ("a: on", "on"),
        ("a: true", True),
        ("a: 010", "010"),
        ("a: 1:30", "1:30"),
        ("a: 0x10", "0x10"),
        ("a: 12", 12),
        ("a: -3", -3),
        ("a: 0.0000000001", Decimal("0.0000000001")),
        ("a: .inf", ".inf"),
        ("a: 2026-05-01", "2026-05-01"),
        ("a: ~", None),
        ("a: null", None),
        ("a: 'null'", "null"),
        ("a: [1, x]", [1, "x"]),
    ],
)
def test_scalars_are_what_they_look_like(text, value):
    found = spec_of(text)["a"]
    assert (found, type(found)) == (value, type(value))


@pytest.mark.parametrize(
    ("text", "told"),
    [
        (HEAD + "spec: {a: 1, a: 2}", "a.yaml:4: a is given twice."),
        (HEAD + "spec: &x {a: 1}\n", "a.yaml:4: Anchors and aliases are not taken"),
        (HEAD + "spec: !!python/object:os.system {}\n", "a.yaml:4: Tags are not taken"),
        (HEAD + f"spec: {'[' * 30}{']' * 30}\n", "a.yaml:4: It is nested more than 20 deep."),
        (HEAD + f"spec: {'{a: ' * 300_000}", "a.yaml:0: It has"),
        (HEAD + f"spec: {'[' * 100_000}", "a.yaml:4: It is nested"),
        (HEAD + "spec: [", "a.yaml:5: It is not YAML"),
        (HEAD + "spec:\n\t- a", "a.yaml:5: It is not YAML"),
        (HEAD.encode() + b"spec: {a: \xff}", "a.yaml:4: It is not UTF-8."),
        (HEAD + "spec: {a: \x07}", "It is not YAML"),
        (HEAD + 'spec: {a: "\\0"}', "a.yaml:1: It has characters that are none"),
        (HEAD + 'spec: {"\\ud800": 1}', "It is not YAML: found invalid Unicode"),
        (HEAD + "spec: {[a]: 1}", "a.yaml:4: Names of fields are plain text."),
        (HEAD + "spec: 5", "a.yaml:4: spec: A spec has fields."),
        (HEAD + "spce: {}", "a.yaml:4: spce: There is no such field here. Did you mean spec?"),
        ("- 1", "a.yaml:1: A document has apiVersion"),
        ("kind: Endpoint", "Write apiVersion: berth/v1."),
        (HEAD.replace("v1", "v9"), "a.yaml:1: apiVersion: Write apiVersion: berth/v1."),
        (HEAD.replace("name: chat", "nmae: chat"), "a.yaml:3: metadata.nmae: There is no such field here. Did"),
        (HEAD.replace("name: chat", "owner: a"), "a.yaml:3: metadata: Give it a name"),
        (HEAD.replace("name: chat", "name: 5"), "a.yaml:3: metadata.name: Write a text"),
        (HEAD.replace("chat", "chat, owner: Team A"), "a.yaml:3: metadata.owner: An owner label has"),
        (HEAD.replace("kind: Endpoint", "kind: [a]"), "a.yaml:2: kind: Say what it is"),
    ],
)  # fmt: skip
def test_what_cannot_be_read_is_told_with_its_line(text, told):
    assert told.replace("a.yaml:0:", "a.yaml:") in refusal(text)


def test_a_file_has_several_documents_and_each_value_its_line():
    one, two = read_yaml(f"{HEAD}---\n\n---\n{HEAD}spec:\n  pins:\n    tp: 2\n", source="a.yaml")
    assert (one.line(), two.line()) == (1, 7)
    assert two.line("spec.pins.tp") == 12
    assert two.line("spec.pins.gpu") == 11
    assert two.line("spec.replicas") == 10


@pytest.mark.parametrize("name", ["²", "٣", "9" * 5_000], ids=["power", "arabic", "long"])
def test_a_field_that_is_called_like_a_number_is_told_where_it_is(name):
    head = {"apiVersion": "berth/v1", "kind": "Endpoint", "metadata": {"name": "chat"}}
    (document,) = read_values([{**head, "spec": {name: 1}}], source="documents")
    assert document.problem("There is no such field.", f"spec.{name}").source == "documents[0]"


def test_too_much_is_refused_before_it_is_read():
    assert "at most 1,048,576 are read" in refusal("#" * (MOST_BYTES + 1))
    assert "at most 500 are read at once" in refusal("---\n".join([HEAD] * 501))


def test_what_comes_as_json_has_no_lines():
    (document,) = read_values(
        [{"apiVersion": "berth/v1", "kind": "Endpoint", "metadata": {"name": "chat"}, "spec": {"a": 1}}],
        source="documents",
    )
    assert (document.source, document.line("spec.a")) == ("documents[0]", 0)
    with pytest.raises(Unusable, match=r"documents\[0\]: A document has"):
        read_values([[]], source="documents")
    deep: list = []
    for _ in range(900):
        deep = [deep]
    with pytest.raises(Unusable, match="It has characters that are none"):
        read_values([{"spec": {"\ud800": 1}}], source="documents")
    with pytest.raises(Unusable, match=r"documents\[0\]: It is nested more than 20 deep"):
        read_values([{"spec": deep}], source="documents")


values = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(10**12), 10**12)
    | st.decimals(allow_nan=False, allow_infinity=False, places=10, min_value=-(10**9), max_value=10**9)
    | st.text(st.characters(codec="utf-8", exclude_categories=["Cs", "Cc"]), max_size=20)
    | st.sampled_from(["no", "1:30", "on", "~", "a\nb ", " x", "010", "1e5", "2026-05-01", "- a", "#"]),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text("abcxyz", min_size=1), inner, max_size=3)
    ),
    max_leaves=10,
)


@given(values)
@settings(max_examples=200, deadline=None)
def test_what_is_written_is_read_back(value):
    written = to_yaml({"a": plain(value)}).replace("\n", "\n  ").rstrip(" ")
    assert plain(spec_of(written)) == {"a": plain(value)}
