"""Applying files by the command: made, changed, told, refused whole."""

from __future__ import annotations

import pytest
from django.core.management import CommandError
from django.db import connection
from django.test.utils import CaptureQueriesContext

from clusters.models import Endpoint
from tenants import scope
from tests.portal.configuration.conftest import CHAT, export, writes

pytestmark = pytest.mark.django_db


def endpoints(tenant) -> dict[str, Endpoint]:
    with scope.tenant(tenant.id):
        return {each.name: each for each in Endpoint.objects.live()}


def test_an_order_is_placed_and_a_second_time_nothing_is_written(acme, apply):
    said = apply(CHAT, dry_run=True)
    assert "Endpoint chat (acme/default): created." in said
    assert "+model: berth-docs-ngram" in said
    assert "Per hour: nothing -> " in said
    assert endpoints(acme) == {}
    apply(CHAT)
    assert endpoints(acme)["chat"].input_tokens == 100
    again: list[str] = []
    assert writes(lambda: again.append(apply(CHAT))) == []
    assert "Endpoint chat (acme/default): unchanged." in again[0]


def test_what_is_compared_is_held_until_it_is_written(acme, apply):
    apply(CHAT)
    with CaptureQueriesContext(connection) as seen:
        apply(CHAT.replace("output_tokens: 50", "output_tokens: 60"))
    said = [each["sql"] for each in seen.captured_queries]
    holds = next(number for number, sql in enumerate(said) if "FOR NO KEY UPDATE" in sql)
    reads = next(number for number, sql in enumerate(said) if 'FROM "clusters_endpoint"' in sql)
    assert '"tenants_tenant"' in said[holds]
    assert holds < reads


def test_what_was_exported_changes_nothing(acme, apply):
    apply(CHAT)
    text = export()
    assert "kind: SloClass" in text
    assert "kind: Endpoint" in text
    said = apply(text)
    assert "created" not in said
    assert "changed," not in said.replace("unchanged", "")
    # The first time who applied what is kept; from then on nothing.
    assert writes(lambda: apply(text)) == []


def test_a_wrong_value_is_told_with_its_line_and_nothing_is_applied(acme, apply):
    wrong = CHAT.replace("input_tokens: 100", "input_tokens: many\n  outputtokens: 5").replace(
        "chat,", "other,"
    )
    with pytest.raises(CommandError) as refused:
        apply(f"{CHAT}---\n{wrong}")
    told = str(refused.value)
    assert "1.yaml:20: Endpoint other spec.input_tokens: A valid integer is required." in told
    assert (
        "1.yaml:21: Endpoint other spec.outputtokens: There is no such field here. Did you mean output_tokens?"
        in told
    )
    assert endpoints(acme) == {}
