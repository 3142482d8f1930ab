"""What a Kubernetes cluster adds to planning: drivers, pinned images, where weights lie, parts of GPUs."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.planning.check import faults
from clusters.planning.gpus import gpu_catalog, mig_slice
from clusters.planning.plans import PlanStatus, Reason
from clusters.planning.search.order import plan
from clusters.planning.versions import is_older
from tests.clusters.planning.problems import LLAMA_8B, order, pool

NEEDS = {"triton-llmapi": "590.44.01"}


def refused(an_order, *pools):
    """Plan; it must fail for one reason everywhere. Gives reason and sentence."""
    answer = plan(an_order, pools)
    assert answer.status is PlanStatus.IMPOSSIBLE
    assert not faults(an_order, pools, answer)
    (reason,) = {refusal.reason for refusal in answer.refusals}
    return reason, answer.refusals[0].message


def placed(an_order, *pools):
    answer = plan(an_order, pools)
    assert answer.configuration is not None, answer.message
    assert not faults(an_order, pools, answer)
    return answer.configuration


def test_an_older_driver_is_refused_with_both_versions():
    reason, message = refused(order(), pool(driver_version="580.95.05", min_drivers=NEEDS))
    assert reason is Reason.DRIVER
    assert "580.95.05" in message
    assert "590.44.01" in message
    assert "upgrade" in message


@pytest.mark.parametrize("version", ["590.44.01", "590.48", "590", "600.1", ""])
def test_new_enough_and_unknown_drivers_are_taken(version):
    assert placed(order(), pool(driver_version=version, min_drivers=NEEDS)).runtime == "triton-llmapi"


def test_an_unpinned_image_is_refused_on_kubernetes_alone():
    reason, message = refused(order(), pool(unpinned=frozenset(NEEDS)))
    assert reason is Reason.IMAGE
    assert "digest" in message
    placed(order(), pool(unpinned=frozenset(NEEDS), driver="local"))


def test_the_next_runtime_is_taken_where_the_first_cannot_start():
    model = dataclasses.replace(LLAMA_8B, runtimes=("triton-llmapi", "trtllm-serve"))
    there = pool(
        runtimes=frozenset(model.runtimes), unpinned=frozenset({"triton-llmapi"}), driver_version="590.44.01",
        min_drivers=NEEDS,
    )  # fmt: skip
    assert placed(order(model=model), there).runtime == "trtllm-serve"


@pytest.mark.parametrize(
    ("residency", "zones", "may"),
    [
        ("zone:EU", {"EU", "EEA"}, True),
        ("region:eu-de-1", {"eu-de-1"}, True),
        ("zone:EU", {"US"}, False),
        ("region:eu-de-1", {"EU"}, False),
        ("zone:EU", set(), False),
        ("global", set(), True),
        ("global", {"US"}, True),
    ],
)
def test_fetched_weights_must_lie_where_the_order_may_run(residency, zones, may):
    model = dataclasses.replace(LLAMA_8B, weights_local=False, weights_zones=frozenset(zones))
    if may:
        placed(order(model=model, residency=residency), pool())
    else:
        reason, message = refused(order(model=model, residency=residency), pool())
        assert reason is Reason.WEIGHTS_LOCATION
        assert "operator" in message


def test_weights_in_the_cluster_stand_where_it_stands():
    placed(order(model=dataclasses.replace(LLAMA_8B, weights_local=True)), pool())


@pytest.mark.parametrize(
    ("gpu", "profile", "name", "memory_gib", "compute", "bandwidth"),
    [
        ("h100_sxm", "1g.10gb", "h100_sxm-1g-10gb", 9.5, 1 / 7, 1 / 8),
        ("h100_sxm", "1g.20gb", "h100_sxm-1g-20gb", 19, 1 / 7, 2 / 8),
        ("h100_sxm", "3g.40gb", "h100_sxm-3g-40gb", 38, 3 / 7, 4 / 8),
        ("h100_sxm", "7g.80gb", "h100_sxm-7g-80gb", 76, 1, 1),
        ("h200_sxm", "1g.18gb", "h200_sxm-1g-18gb", 17.1, 1 / 7, 1 / 8),
        ("a100_sxm_40gb", "2g.10gb", "a100_sxm_40gb-2g-10gb", 9.5, 2 / 7, 2 / 8),
        ("h100_sxm", "1g.10gb+me", "h100_sxm-1g-10gb-me", 9.5, 1 / 7, 1 / 8),
        ("a30", "2g.12gb", "a30-2g-12gb", 11.4, 2 / 4, 2 / 4),
    ],
)
def test_a_mig_part_has_its_share(gpu, profile, name, memory_gib, compute, bandwidth):
    whole = gpu_catalog()[gpu]
    part = mig_slice(whole, profile)
    assert (part.name, part.memory_gib, part.slice_of) == (name, memory_gib, gpu)
    assert part.bf16_tflops == pytest.approx(whole.bf16_tflops * compute)
    assert part.bandwidth_gbs == pytest.approx(whole.bandwidth_gbs * bandwidth, abs=0.01)
    assert gpu_catalog()[name] == part
    assert name not in list(gpu_catalog())


@pytest.mark.parametrize(
    ("gpu", "profile"),
    [
        ("l4", "1g.6gb"),
        ("h100_sxm", "8g.80gb"),
        ("h100_sxm", "7g.141gb"),
        ("a30", "7g.24gb"),
        ("h100_sxm", "big"),
    ],
)
def test_what_is_no_profile_of_a_gpu_is_refused(gpu, profile):
    with pytest.raises(ValueError, match="MIG profile"):
        mig_slice(gpu_catalog()[gpu], profile)
    assert gpu_catalog().get(f"{gpu}-{profile.replace('.', '-')}") is None


def test_parts_of_gpus_serve_alone():
    there = pool(gpu="h100_sxm-3g-40gb", gpus_per_node=16, free=(16,))
    answer = plan(order(), [there])
    assert not faults(order(), [there], answer)
    assert answer.configuration is not None
    assert answer.configuration.tp == 1
    assert {refusal.reason for refusal in answer.refusals if (refusal.tp or 1) * (refusal.pp or 1) > 1} == {
        Reason.NODE_SIZE
    }


@pytest.mark.parametrize(
    ("version", "than", "older"),
    [
        ("580.95.05", "590.44.01", True),
        ("590.44", "590.44.01", False),
        ("590.44.01", "590.44.01", False),
        ("590.100.1", "590.44.01", False),
        ("unknown", "1", True),
    ],
)
def test_versions_are_compared_as_numbers(version, than, older):
    assert is_older(version, than) is older
