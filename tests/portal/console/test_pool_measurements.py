"""Measurements of a pool in the console: a report is brought, shown beside expectations, and taken back."""

from __future__ import annotations

import json

import pytest
from django.core.files.uploadedfile import SimpleUploadedFile
from django.urls import reverse

from clusters.models import PoolMeasurement, Revision
from tenants import scope
from tests.api.test_pool_measurements import BEGAN, report
from tests.estate import MODEL
from tests.portal.console.test_estate import endpoint_pool

BY_HAND = {
    "model": MODEL, "runtime": "triton-python", "precision": "bf16", "tensor_parallel": "1",
    "pipeline_parallel": "1", "replicas": "1", "max_batch_size": "8", "max_num_tokens": "2048",
}  # fmt: skip


def page(name: str, pool, *more: object) -> str:
    return reverse(f"console:pool-{name}", args=[pool.cluster.name, pool.name, *more])


def file(content: object) -> SimpleUploadedFile:
    return SimpleUploadedFile("report.json", json.dumps(content).encode(), "application/json")


@pytest.fixture
def pool(endpoint):
    return endpoint_pool(endpoint)


def test_a_report_of_an_endpoint_is_brought_shown_and_taken_back(console, endpoint, pool):
    with scope.tenant(endpoint.tenant_id):
        Revision.objects.update(applied_at=BEGAN)
    assert "Nothing measured here yet" in console.get(page("measurements", pool)).text
    form = console.get(page("qualify", pool)).text
    assert "chat of Acme &lt;b&gt;GmbH&lt;/b&gt;" in form
    done = console.post(
        page("qualify", pool), {"report": file(report()), "endpoint": str(endpoint.id)}, follow=True
    )
    assert f"Pool {pool.name} is qualified" in done.text
    row = PoolMeasurement.objects.get()
    assert row.measured_by == "operator olga@example.org"
    assert "120 requests" in done.text
    assert "20 ms" in done.text
    again = console.post(
        page("qualify", pool), {"report": file(report()), "endpoint": str(endpoint.id)}, follow=True
    )
    assert "nothing changed" in again.text
    removing = page("measurement-remove", pool, row.id)
    assert "The same report can qualify the pool again." in console.get(removing).text
    assert "The measurement is removed" in console.post(removing, follow=True).text
    assert not PoolMeasurement.objects.exists()


@pytest.mark.parametrize(
    ("changes", "words"),
    [
        ({"report": b"{"}, "This is no JSON object."),
        ({"report": report(kept_up=False)}, "could not keep up"),
        ({"model": ""}, "Say it, or choose the endpoint that served."),
        ({"replicas": "999"}, "They hold 999 GPUs"),
        ({"revision": "1"}, "Choose the endpoint too, or leave it empty."),
    ],
)
def test_what_is_wrong_stands_beside_its_field(console, pool, changes, words):
    sent = {"report": report(), **BY_HAND, **changes}
    content = sent.pop("report")
    upload = SimpleUploadedFile("r.json", content) if isinstance(content, bytes) else file(content)
    answer = console.post(page("qualify", pool), {"report": upload, **sent})
    assert answer.status_code == 422
    assert words in answer.text
    assert not PoolMeasurement.objects.exists()


def test_a_pool_that_is_not_there(console, pool):
    answer = console.get(reverse("console:pool-measurements", args=[pool.cluster.name, "none"]))
    assert answer.status_code == 404
