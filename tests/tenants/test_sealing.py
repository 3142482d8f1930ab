"""Secrets at rest open for their own tenant, row and field, and under the sealing keys alone."""

from __future__ import annotations

import uuid

import pytest
from django.apps import apps
from django.core.checks import Tags, run_checks
from django.core.exceptions import ImproperlyConfigured
from django.db import models

from tenants.sealing import (
    CannotOpen,
    KeyGone,
    KeysAway,
    SealedBinaryField,
    SealedField,
    seal,
    unseal,
)
from tenants.sealing.envelope import head_of, rewrap

ROW = uuid.UUID(int=7)
FIELD = SealedField(uuid.UUID(int=1), "clusters_cluster", ROW, "credentials")
OTHERS = [
    SealedField(uuid.UUID(int=2), "clusters_cluster", ROW, "credentials"),
    SealedField(None, "clusters_cluster", ROW, "credentials"),
    SealedField(uuid.UUID(int=1), "clusters_gateway", ROW, "credentials"),
    SealedField(uuid.UUID(int=1), "clusters_cluster", uuid.UUID(int=8), "credentials"),
    SealedField(uuid.UUID(int=1), "clusters_cluster", ROW, "token"),
]

#: Columns of bytes that hold no secret, each with the reason.
PLAIN = {
    "billing.Statement.inputs": "what a statement was computed from: the tenant's own usage, kept for replay",
    "clusters.Tokenizer.content": "a published tokenizer",
}


def test_what_is_sealed_does_not_show_what_it_is():
    sealed = seal(b"token", field=FIELD)
    assert b"token" not in sealed
    assert unseal(sealed, field=FIELD) == b"token"
    assert unseal(memoryview(sealed), field=FIELD) == b"token"


@pytest.mark.parametrize("other", OTHERS, ids=["tenant", "platform", "table", "row", "field"])
def test_it_opens_for_its_own_tenant_table_row_and_field_only(other):
    sealed = seal(b"token", field=FIELD)
    with pytest.raises(CannotOpen):
        unseal(sealed, field=other)
    (refused,) = rewrap([(sealed, other)])
    assert isinstance(refused, CannotOpen)


def test_a_data_key_cannot_be_put_before_another_value():
    one, two = seal(b"token", field=FIELD), seal(b"other", field=FIELD)
    head = len(one) - len(b"token") - 12 - 16
    with pytest.raises(CannotOpen):
        unseal(one[:head] + two[head:], field=FIELD)


def test_no_changed_byte_and_no_lost_end_goes_unnoticed():
    sealed = seal(b"token", field=FIELD)
    for at in range(len(sealed)):
        for changed in (sealed[:at] + bytes([sealed[at] ^ 1]) + sealed[at + 1 :], sealed[:at]):
            with pytest.raises(CannotOpen):
                unseal(changed, field=FIELD)


def test_the_same_value_is_sealed_otherwise_each_time():
    assert len({seal(b"token", field=FIELD) for _ in range(50)}) == 50


@pytest.mark.parametrize(
    "field",
    [
        SealedField(None, "a|b", ROW, "c"), SealedField(None, "a", "1|2", "c"), SealedField("x|y", "a", ROW, "c"),
        SealedField(None, "a", ROW, ""), SealedField(None, "a", None, "c"),
    ],
)  # fmt: skip
def test_nothing_is_bound_to_what_could_be_read_in_two_ways(field):
    with pytest.raises(ValueError, match="bound"):
        seal(b"token", field=field)


def test_the_peppers_that_gateways_hold_open_nothing(settings):
    sealed = seal(b"token", field=FIELD)
    settings.SEALING_KEYS = settings.KEY_PEPPERS
    with pytest.raises(CannotOpen):
        unseal(sealed, field=FIELD)


def test_the_newest_key_seals_and_older_ones_open(settings):
    older = seal(b"token", field=FIELD)
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: b"2" * 32}
    newer = seal(b"token", field=FIELD)
    assert (str(head_of(older)), str(head_of(newer))) == ("environment:1", "environment:2")
    assert unseal(older, field=FIELD) == b"token"
    del settings.SEALING_KEYS[1]
    assert unseal(newer, field=FIELD) == b"token"
    with pytest.raises(KeyGone, match="environment:1"):
        unseal(older, field=FIELD)


def test_a_new_key_can_be_known_everywhere_before_it_seals(settings):
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: b"2" * 32}
    settings.SEALING_KEY_NUMBER = 1
    assert str(head_of(seal(b"token", field=FIELD))) == "environment:1"
    settings.SEALING_KEY_NUMBER = 3
    with pytest.raises(KeysAway, match="BERTH_SEALING_KEY"):
        seal(b"token", field=FIELD)


def test_wrapping_anew_leaves_the_value_as_it_was(settings):
    older = seal(b"token", field=FIELD)
    settings.SEALING_KEYS = {**settings.SEALING_KEYS, 2: b"2" * 32}
    (newer,) = rewrap([(older, FIELD)])
    assert str(head_of(newer)) == "environment:2"
    assert newer[-33:] == older[-33:], "nonce, ciphertext and tag stay"
    del settings.SEALING_KEYS[1]
    assert unseal(newer, field=FIELD) == b"token"


def test_what_an_older_version_sealed_is_told_so():
    with pytest.raises(CannotOpen, match="older version"):
        unseal(b"\0\0\0\1" + b"x" * 40, field=FIELD)


@pytest.mark.parametrize(
    ("changes", "told"),
    [
        ({"SEALING_KEYS": {}}, "BERTH_SEALING_KEYS"),
        ({"SEALING_PROVIDER": "file"}, "BERTH_SEALING_FILE"),
        ({"SEALING_PROVIDER": "vault-transit"}, "BERTH_VAULT_ADDR"),
        ({"SEALING_PROVIDER": "drawer"}, "one of environment, file, vault-transit"),
    ],
)
def test_what_is_not_set_up_is_named(settings, changes, told):
    for name, value in changes.items():
        setattr(settings, name, value)
    with pytest.raises(ImproperlyConfigured, match=told):
        seal(b"token", field=FIELD)
    (error,) = run_checks(tags=[Tags.security])
    assert error.id == "tenants.E001"
    assert told in error.msg


def test_a_provider_that_was_taken_away_is_named(settings, tmp_path):
    sealed = seal(b"token", field=FIELD)
    file = tmp_path / "keys"
    file.write_text("1:" + "ab" * 32)
    file.chmod(0o400)
    settings.SEALING_PROVIDER, settings.SEALING_FILE, settings.SEALING_KEYS = "file", str(file), {}
    with pytest.raises(KeyGone, match="BERTH_SEALING_KEYS"):
        unseal(sealed, field=FIELD)


def test_every_column_of_bytes_is_sealed_or_says_why_not():
    found = {
        f"{model._meta.label}.{field.name}": isinstance(field, SealedBinaryField)
        for model in apps.get_models()
        for field in model._meta.local_fields
        if isinstance(field, models.BinaryField)
    }
    assert {name for name, sealed in found.items() if not sealed} == set(PLAIN)
    assert {name for name, sealed in found.items() if sealed} >= {
        "clusters.Cluster.credentials", "clusters.Gateway.token", "clusters.CatalogModel.weights_secret",
        "clusters.ModelSecret.sealed", "tenants.IdempotencyRecord.body", "tenants.OperatorIdempotencyRecord.body",
        "tenants.WebhookEndpoint.secret", "tenants.WebhookEndpoint.previous_secret",
    }  # fmt: skip
