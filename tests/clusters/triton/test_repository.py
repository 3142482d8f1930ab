"""What is written for tritonserver to serve from."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.triton import pbtxt
from clusters.triton.errors import InvalidDeployment
from clusters.triton.repository import EngineSpec, config_pbtxt, write_repository

SPEC = EngineSpec(model="berth-docs-ngram", context_tokens=512, max_output_tokens=400, max_batch_size=12)


def test_text_format():
    message = {
        "name": 'a "quoted"\nü\\',
        "kind": pbtxt.Enum("KIND_CPU"),
        "on": True,
        "off": False,
        "count": 3,
        "share": 0.5,
        "dims": [1, -1],
        "inner": {"empty": {}, "item": [{"a": 1}, {"a": 2}]},
    }
    assert pbtxt.emit(message) == (
        'name: "a \\042quoted\\042\\012\\303\\274\\134"\n'
        "kind: KIND_CPU\n"
        "on: true\n"
        "off: false\n"
        "count: 3\n"
        "share: 0.5\n"
        "dims: 1\n"
        "dims: -1\n"
        "inner {\n"
        "  empty {\n"
        "  }\n"
        "  item {\n"
        "    a: 1\n"
        "  }\n"
        "  item {\n"
        "    a: 2\n"
        "  }\n"
        "}\n"
    )


def test_the_configuration_holds_the_limits():
    text = config_pbtxt(SPEC)
    assert text.startswith('name: "ensemble"\nbackend: "python"\nmax_batch_size: 0\n')
    assert 'key: "context_tokens"\n  value {\n    string_value: "512"\n  }' in text
    assert config_pbtxt(SPEC) == text


def test_a_repository_is_written_once_and_whole(tmp_path, model_cache):
    folder = tmp_path / "repositories" / SPEC.digest
    write_repository(SPEC, folder=folder, cache=model_cache)
    files = {path.name for path in (folder / "ensemble" / "1").iterdir()}
    assert {"model.py", "ngram.py", "tokenizer.json", "ngrams.npz"} <= files
    (folder / "ensemble" / "config.pbtxt").write_text("left alone")
    write_repository(SPEC, folder=folder, cache=model_cache)
    assert (folder / "ensemble" / "config.pbtxt").read_text() == "left alone"
    assert [path.name for path in folder.parent.iterdir()] == [SPEC.digest]


def test_the_digest_follows_every_field():
    digests = {SPEC.digest}
    for field, value in {
        "context_tokens": 513,
        "max_output_tokens": 9,
        "max_batch_size": 1,
        "token_delay_ms": 1,
    }.items():
        digests.add(dataclasses.replace(SPEC, **{field: value}).digest)
    assert len(digests) == 5


@pytest.mark.parametrize(
    ("change", "says"),
    [
        ({"model": "llama"}, "ships the model 'berth-docs-ngram', not 'llama'"),
        ({"context_tokens": 4096}, "context_tokens must be from 2 to 2048"),
        ({"max_output_tokens": 513}, "max_output_tokens must be from 1 to 512"),
        ({"max_batch_size": 0}, "max_batch_size"),
        ({"parameters": {"token_delay_ms": "-1"}}, "token_delay_ms must be a whole number"),
        ({"parameters": {"token_delay_ms": "99999"}}, "token_delay_ms must be from 0 to 10000"),
        ({"parameters": {"lora_path": "/etc"}}, "not lora_path"),
    ],
)
def test_what_can_never_run_is_refused(change, says):
    fields = {
        "model": "berth-docs-ngram",
        "context_tokens": 512,
        "max_output_tokens": 64,
        "max_batch_size": 4,
        "parameters": {},
    }
    with pytest.raises(InvalidDeployment, match=says):
        EngineSpec.parse(**fields | change)
