"""The Django admin opens for staff, shows rows of all tenants, and changes none of them."""

from __future__ import annotations

import logging

import pytest
from django.contrib import admin
from django.urls import reverse

from tenants.models import TenantOwned
from tests.factories import make_tenant, make_user


@pytest.fixture
def root(client, db):
    user = make_user("root@example.org", is_staff=True, is_superuser=True)
    client.force_login(user)
    return client


def owned() -> list:
    return [model for model in admin.site._registry if issubclass(model, TenantOwned)]


def test_lists_of_all_models_open(root):
    make_tenant("acme")
    make_tenant("globex")
    for model in admin.site._registry:
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_changelist"
        assert root.get(reverse(name)).status_code == 200, name
    page = root.get(reverse("admin:tenants_project_changelist")).text
    assert "Acme" in page
    assert "Globex" in page


def test_rows_of_tenants_are_read_only(root):
    assert len(owned()) >= 8
    for model in owned():
        name = f"admin:{model._meta.app_label}_{model._meta.model_name}_add"
        assert root.get(reverse(name)).status_code == 403, name


def test_one_row_opens(root):
    tenant = make_tenant("acme")
    assert "Acme" in root.get(reverse("admin:tenants_tenant_change", args=[tenant.id])).text


def test_who_looks_is_written_down(root, caplog):
    with caplog.at_level(logging.INFO, "berth.operator"):
        root.get(reverse("admin:tenants_apikey_changelist"))
    assert "operator=root@example.org action=admin.get path=/admin/tenants/apikey/" in caplog.text


def test_others_are_sent_to_sign_in(client, db):
    client.force_login(make_user())
    assert client.get(reverse("admin:tenants_project_changelist")).status_code == 302
