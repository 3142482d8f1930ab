from __future__ import annotations

import dataclasses

import pytest

from clusters.endpoints.blueprint import kept_spec
from clusters.endpoints.evaluations.prompts import checked
from clusters.endpoints.evaluations.sets import newest_version, set_create
from clusters.models import EvaluationRun, EvaluationVersion, Gateway, Revision
from tenants import scope
from tenants.models import new_id
from tests.clusters.endpoints.conftest import cluster, estate, order, settle, tenant  # noqa: F401 - fixtures
from tests.fakes.model_gateway import FakeModelGateway

ECHO = [
    {"name": "first", "prompt": "say a-secret-word", "checks": [{"contains": "a-secret-word"}]},
    {"messages": [{"role": "user", "content": "count to three"}], "checks": [{"max_tokens": 3}]},
]


@pytest.fixture
def model_gateway(estate):  # noqa: F811
    """The estate's gateway answers what a test says."""
    with FakeModelGateway().running() as fake:
        Gateway.objects.filter(id=estate.gateway.id).update(public_url=fake.url)
        yield fake


@pytest.fixture
def serving(order, settle):  # noqa: F811
    """An endpoint that serves its first revision."""
    return settle(order())


def first_revision(endpoint) -> Revision:
    with scope.tenant(endpoint.tenant_id):
        return Revision.objects.select_related("endpoint").get(endpoint=endpoint, number=1)


def revised(endpoint, *, number=2, kv_cache_dtype=None, model=None, **changes) -> Revision:
    """Make another revision of the endpoint that differs from its first in ``changes``."""
    with scope.tenant(endpoint.tenant_id):
        first = Revision.objects.get(endpoint=endpoint, number=1)
        spec = kept_spec(first)
        if kv_cache_dtype:
            spec = dataclasses.replace(
                spec, tuning=dataclasses.replace(spec.tuning, kv_cache_dtype=kv_cache_dtype)
            )
        if model:
            spec = dataclasses.replace(spec, model=model)
        columns = {
            field.attname: getattr(first, field.attname)
            for field in Revision._meta.concrete_fields
            if field.attname not in ("id", "created_at", "deployment", "number", "spec")
        }
        values = {**columns, "spec": spec.to_document(), "deployment": f"chat-r{number}", **changes}
        return Revision.objects.create(id=new_id(), number=number, **values)


def made_set(endpoint=None, prompts=None, **values) -> EvaluationVersion:
    """Make a set of the endpoint's tenant for that endpoint, unless ``values`` say otherwise."""
    tenant_id = endpoint.tenant_id if endpoint else None
    wanted = {
        "name": "basics", "prompts": checked(prompts or ECHO), "actor": "a test", "tenant_id": tenant_id,
        "endpoint": None if "model" in values else endpoint,
    } | values  # fmt: skip
    if wanted["tenant_id"] is None:
        with scope.platform("a test"):
            return newest_version(set_create(**wanted))
    with scope.tenant(tenant_id or wanted["tenant_id"]):
        return newest_version(set_create(**wanted))


def stored(run) -> EvaluationRun:
    with scope.platform("a test"):
        return EvaluationRun.objects.select_related("version__set", "revision", "endpoint").get(id=run.id)
