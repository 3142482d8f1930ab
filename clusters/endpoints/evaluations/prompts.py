"""Prompts with checks, as people write them: read, checked, and written down again."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import Any, Final, Literal

import jsonschema_rs
import msgspec
import yaml

from tenants.errors import Invalid

MOST_PROMPTS: Final = 200
MOST_CHECKS: Final = 20
MOST_MESSAGES: Final = 50
MOST_TEXT: Final = 32_000
MOST_ANSWER: Final = 4_096
MOST_PATTERN: Final = 1_000
MOST_BYTES: Final = 512 * 1024
#: How large a compiled pattern may be, in bytes.
_PATTERN_SIZE: Final = 1 << 20


class Check(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One thing that an answer has to be. Exactly one of the members of :data:`KINDS` is given.

    ``similar`` is the least likeness with what the old revision answers, 0 to 1. ``ignore_case`` is of the texts.
    """

    contains: str | None = None
    not_contains: str | None = None
    equals: str | None = None
    regex: str | None = None
    json_schema: dict[str, Any] | None = None
    max_tokens: int | None = None
    similar: float | None = None
    ignore_case: bool = False
    weight: int = 1

    @property
    def kind(self) -> str:
        return next(kind for kind in KINDS if getattr(self, kind) is not None)


#: What can be checked.
KINDS: Final = ("contains", "not_contains", "equals", "regex", "json_schema", "max_tokens", "similar")
_TEXTS: Final = ("contains", "not_contains", "equals")


class Message(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """One message of a chat."""

    role: Literal["system", "user", "assistant"]
    content: str


class Prompt(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One question: a text that the model goes on with (``prompt``) or a chat (``messages``), and its checks."""

    checks: tuple[Check, ...]
    name: str = ""
    prompt: str | None = None
    messages: tuple[Message, ...] | None = None
    max_tokens: int = 256


def read(text: str) -> tuple[Prompt, ...]:
    """Read YAML or JSON: a list of prompts, or an object with one under ``prompts``.

    Raises:
        Invalid: it is neither, or a prompt or check is wrong; the message says which and why.
    """
    if len(text.encode(errors="replace")) > MOST_BYTES:
        raise _wrong(f"The prompts are longer than {MOST_BYTES // 1024} KiB.")
    try:
        document = yaml.load(text, Loader=_Loader)  # noqa: S506 - a loader without objects and aliases
    except (yaml.YAMLError, RecursionError, ValueError) as error:
        mark = getattr(error, "problem_mark", None)
        where = f" in line {mark.line + 1}" if mark else ""
        problem = getattr(error, "problem", None) or "it cannot be read"
        raise _wrong(f"The prompts are neither YAML nor JSON{where}: {problem}.") from error
    return checked(document)


def checked(document: Any) -> tuple[Prompt, ...]:
    """Check prompts as they come out of JSON or YAML.

    Raises:
        Invalid: a prompt or check is wrong; the message says which and why.
    """
    if isinstance(document, Mapping) and set(document) == {"prompts"}:
        document = document["prompts"]
    if not isinstance(document, Sequence) or isinstance(document, str) or not document:
        raise _wrong("Give a list of prompts, each with checks.")
    if len(document) > MOST_PROMPTS:
        raise _wrong(f"A set has at most {MOST_PROMPTS} prompts.")
    found = []
    for number, each in enumerate(document, 1):
        try:
            prompt = msgspec.convert(each, Prompt)
        except msgspec.ValidationError as error:
            raise _wrong(f"Prompt {number}: {error}.") from error
        except RecursionError as error:
            raise _wrong(f"Prompt {number}: it is nested too deeply.") from error
        for problem in _problems(prompt):
            raise _wrong(f"Prompt {number}: {problem}")
        found.append(prompt)
    try:
        content = packed(found)
        same = unpacked(content) == tuple(found)
    except (UnicodeEncodeError, msgspec.DecodeError, RecursionError):
        same = False
    if not same:
        raise _wrong("A text or number cannot be kept as JSON: half of a surrogate pair, or NaN.")
    if len(content) > MOST_BYTES:
        raise _wrong(f"The prompts are longer than {MOST_BYTES // 1024} KiB.")
    return tuple(found)


def packed(prompts: Sequence[Prompt]) -> bytes:
    """Write prompts down."""
    return msgspec.json.encode(prompts)


def unpacked(content: bytes) -> tuple[Prompt, ...]:
    """Read what :func:`packed` gave."""
    return msgspec.json.decode(content, type=tuple[Prompt, ...])


def plain(prompts: Sequence[Prompt]) -> list[dict[str, Any]]:
    """Give prompts as plain values, as they were written."""
    return list(msgspec.to_builtins(prompts))


def as_yaml(prompts: Sequence[Prompt]) -> str:
    """Give prompts as people read and change them."""
    return yaml.safe_dump(plain(prompts), sort_keys=False, allow_unicode=True, width=100)


def compiled(schema: Mapping[str, Any]) -> jsonschema_rs.Draft202012Validator:
    """Compile a JSON schema (2020-12) whose patterns take linear time, and which refers to nothing outside itself.

    Raises:
        jsonschema_rs.ValidationError: it is none.
    """
    return jsonschema_rs.Draft202012Validator(
        schema,
        retriever=_nothing_outside,
        pattern_options=jsonschema_rs.RegexOptions(size_limit=_PATTERN_SIZE),
    )


def matching(pattern: str) -> jsonschema_rs.Draft202012Validator:
    """Compile a regular expression, which is found anywhere in a text in linear time: no look-around.

    Raises:
        jsonschema_rs.ValidationError: it is none.
    """
    return compiled({"type": "string", "pattern": pattern})


def _problems(prompt: Prompt) -> Iterator[str]:
    """Say what is wrong with a prompt that has the right form."""
    if (prompt.prompt is None) == (prompt.messages is None):
        yield "give it either a prompt or messages."
        return
    if len(prompt.name) > 80:
        yield "its name is longer than 80 characters."
    if prompt.messages is not None and not 1 <= len(prompt.messages) <= MOST_MESSAGES:
        yield f"give it 1 to {MOST_MESSAGES} messages."
    texts = [prompt.prompt] if prompt.prompt is not None else [each.content for each in prompt.messages or ()]
    if not any(text.strip() for text in texts):
        yield "it is empty."
    if sum(map(len, texts)) > MOST_TEXT:
        yield f"it is longer than {MOST_TEXT:,} characters."
    if any("\0" in text for text in (*texts, prompt.name)):
        yield "it holds a NUL."
    if not 1 <= prompt.max_tokens <= MOST_ANSWER:
        yield f"its max_tokens is not 1 to {MOST_ANSWER:,}."
    if not 1 <= len(prompt.checks) <= MOST_CHECKS:
        yield f"give it 1 to {MOST_CHECKS} checks."
    for number, check in enumerate(prompt.checks, 1):
        problem = _problem(check)
        if problem:
            yield f"check {number}: {problem}"


def _problem(check: Check) -> str:
    given = [kind for kind in KINDS if getattr(check, kind) is not None]
    if len(given) != 1:
        return f"give exactly one of {', '.join(KINDS)}."
    kind, value = given[0], getattr(check, given[0])
    if not 1 <= check.weight <= 100:
        return "its weight is not 1 to 100."
    if check.ignore_case and kind not in _TEXTS:
        return f"ignore_case is of {', '.join(_TEXTS)}; a regex says (?i) itself."
    if kind in _TEXTS and not (value.strip() and len(value) <= MOST_TEXT):
        return f"{kind} wants a text of 1 to {MOST_TEXT:,} characters."
    if kind == "max_tokens" and not 1 <= value <= MOST_ANSWER:
        return f"max_tokens is not 1 to {MOST_ANSWER:,}."
    if kind == "similar" and not 0 < value <= 1:
        return "similar is a likeness above 0 and at most 1."
    try:
        if kind == "regex":
            if len(value) > MOST_PATTERN:
                return f"the regex is longer than {MOST_PATTERN:,} characters."
            matching(value)
        elif kind == "json_schema":
            compiled(value)
    except (jsonschema_rs.ValidationError, ValueError, OverflowError, RecursionError):
        if kind == "regex":
            return "the regex is wrong or too large. Look-around and back references are not known."
        return "the schema is wrong, too large, or refers to something outside itself."
    return ""


def _nothing_outside(uri: str) -> dict[str, Any]:
    raise ValueError("A schema of an evaluation refers to nothing outside itself.")


def _wrong(text: str) -> Invalid:
    return Invalid(text, errors={"prompts": [text]})


class _Loader(yaml.SafeLoader):
    """Reads what JSON could say as well: no aliases, which could make a small text large, and dates stay texts."""

    def compose_node(self, parent: Any, index: Any) -> Any:
        if self.check_event(yaml.AliasEvent):
            event = self.peek_event()
            raise yaml.composer.ComposerError(None, None, "aliases are not known here", event.start_mark)
        return super().compose_node(parent, index)


_Loader.yaml_implicit_resolvers = {
    first: [(tag, pattern) for tag, pattern in found if tag != "tag:yaml.org,2002:timestamp"]
    for first, found in yaml.SafeLoader.yaml_implicit_resolvers.items()
}


EXAMPLE: Final = r"""- name: capital                      # optional, to find it again
  messages:
    - role: system
      content: Answer in one word.
    - role: user
      content: What is the capital of France?
  max_tokens: 16
  checks:
    - contains: Paris                # the text is in the answer
      ignore_case: true
    - not_contains: Lyon             # and this one is not
    - max_tokens: 5                  # the answer is no longer
      weight: 2                      # counts twice
- name: order as JSON
  messages:
    - role: user
      content: >-
        Give {"item": string, "count": integer} for "three red pens". JSON only.
  checks:
    - json_schema:                   # the answer is JSON that fits
        type: object
        required: [item, count]
        properties:
          count: {const: 3}
- name: number
  prompt: "2 + 2 ="                  # a text that the model goes on with
  max_tokens: 4
  checks:
    - equals: "4"                    # after blanks at both ends are cut
    - regex: "^\\s*4\\b"             # found anywhere, in linear time
    - similar: 0.8                   # like what the old revision answers
"""
