"""The nets that every test hangs in do catch."""

from __future__ import annotations

import logging

import pytest
from django.db import connection

from tenants import secret_keys
from tests.keys_found import keys_in


@pytest.mark.logs_secrets
def test_a_key_that_is_logged_is_heard(log_listener):
    log = logging.getLogger("tests.secrets")
    log.warning("berth_%s", "x" * 42)
    assert log_listener.seen == [], "it has the length of a key, and is none"
    log.warning("refused %s", secret_keys.generate())
    try:
        raise ValueError(secret_keys.generate())
    except ValueError:
        log.exception("it broke")
    assert [line.partition("\n")[0] for line in log_listener.seen] == [
        "tests.secrets: refused berth_…", "tests.secrets: it broke",
    ]  # fmt: skip
    assert not any(secret_keys.well_formed(word) for line in log_listener.seen for word in line.split())


def test_a_key_that_rests_in_a_table_is_seen_as_text_and_as_bytes(committed_db):
    name = connection.settings_dict["NAME"]
    assert keys_in(name) == []
    key = secret_keys.generate()
    with connection.cursor() as cursor:
        cursor.execute("INSERT INTO django_content_type (app_label, model) VALUES ('x', %s)", [f"<{key}>"])
        cursor.execute(
            "INSERT INTO clusters_tokenizer (sha256, content, size, created_at) VALUES ('0', %s, 1, now())",
            [b"\x00 " + key.encode()],
        )
    assert keys_in(name) == ["clusters_tokenizer", "django_content_type"]
    with connection.cursor() as cursor:
        cursor.execute("DELETE FROM django_content_type WHERE app_label = 'x'")
        cursor.execute("DELETE FROM clusters_tokenizer")
