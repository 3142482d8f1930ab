"""Every model is audited or has a reason, no secret is among what is told, and PostgreSQL has the triggers for it."""

from __future__ import annotations

import pytest
from django.apps import apps
from django.db import connection, models

from tenants.audit import registry, triggers

OURS = ("tenants", "billing", "clusters")

#: Words of columns that hold secrets or what leads to them.
SECRET = {"password", "digest", "secret", "token", "sealed", "credentials", "pepper", "private"}
#: Columns with such a word that hold none, each with the reason.
HARMLESS = {
    "clusters_sloclass.first_token_timeout_s": "a time",
    "clusters_engineimage.digest": "the digest of a public image",
    "clusters_appliedobject.digest": "tells whether a document says something new",
    "clusters_appliedplatformobject.digest": "tells whether a document says something new",
    "clusters_poolmeasurement.digest": "tells one measurement from another, so that none counts twice",
    "clusters_cluster.credentials_version": "counts rotations",
    "clusters_cluster.credentials_name": "who the cluster says we are",
    "clusters_cluster.pull_secret": "the name of a secret in the cluster",
}


def own_models():
    return [model for model in apps.get_models() if model._meta.app_label in OURS]


def columns():
    for label, about in registry.AUDITED.items():
        yield from ((apps.get_model(label), about, column) for column in about.columns)


def test_every_model_is_audited_or_has_a_reason():
    labels = {model._meta.label for model in own_models()}
    assert labels - set(registry.AUDITED) - set(registry.UNAUDITED) == set()
    assert set(registry.AUDITED) & set(registry.UNAUDITED) == set()
    assert set(registry.UNAUDITED) <= labels
    assert all(registry.UNAUDITED.values())


def test_what_is_registered_are_columns_of_the_table():
    for label, about in registry.AUDITED.items():
        known = {field.column for field in apps.get_model(label)._meta.local_fields}
        named = {*about.columns, *about.hidden, about.key, *(word for word, _, _ in about.verbs)}
        assert named | ({about.name, about.tenant} - {""}) <= known, label


def test_nouns_name_one_table_each():
    nouns = [about.noun for about in registry.AUDITED.values()]
    assert sorted(nouns) == sorted(set(nouns))


def test_no_secret_is_told():
    for model, _, column in columns():
        field = next(each for each in model._meta.local_fields if each.column == column)
        assert not isinstance(field, models.BinaryField), f"{model._meta.label}.{column}"
        wordy = not SECRET.isdisjoint(column.split("_"))
        assert not wordy or f"{model._meta.db_table}.{column}" in HARMLESS, f"{model._meta.label}.{column}"


@pytest.mark.django_db
def test_the_database_has_the_triggers_of_the_registry():
    wanted = {table: about.argument() for table, about in registry.tables().items()}
    assert triggers.installed(connection) == wanted
