from __future__ import annotations

import pytest
from django.core.management import call_command

from clusters.inventory import services
from clusters.models import Cluster
from tests.factories import make_tenant


@pytest.fixture
def region(db):
    call_command("bootstrap", verbosity=0)
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
