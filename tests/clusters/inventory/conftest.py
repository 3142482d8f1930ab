from __future__ import annotations

import pytest

from clusters.inventory import services
from clusters.models import Cluster
from tests.estate import bootstrap
from tests.factories import make_tenant


@pytest.fixture
def region(db):
    bootstrap()
    return services.region_register(
        code="eu-de-1", name="Frankfurt", country="DE", zones=["EU", "EEA"], certifications=["ISO27001"]
    )


@pytest.fixture
def cluster(region):
    """The row of a Kubernetes cluster that nobody asks anything."""
    return Cluster.objects.create(
        name="k8s-a",
        region=region,
        driver="kubernetes",
        runtimes=["triton-llmapi"],
        server="https://127.0.0.1:1",
    )


@pytest.fixture
def tenant(db):
    return make_tenant("acme", gpus=64)
