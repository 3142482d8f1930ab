"""``python -m bench.tools.reconciles TIMES``: settle deployments again and again through one driver.

Credentials come as JSON on standard input; figures go as JSON to standard output. A process of its own, so that
nothing else shows in its memory.
"""

from __future__ import annotations

import collections
import contextlib
import dataclasses
import gc
import json
import sys
import time
from typing import Final

import psutil

from bench.tools.deployments import spec_of
from bench.tools.figures import Figures, quantiles
from clusters.drivers.kubernetes.driver import KubernetesDriver
from clusters.kube.client import KubeClient, Request
from clusters.kube.credentials import Credentials
from clusters.kube.manifests import ClusterFacts

DEPLOYMENTS: Final = 50
PROJECTS: Final = 5
WARM: Final = 1_000
SCALE_EVERY: Final = 200
MIB: Final = 2**20


def measure(credentials: Credentials, times: int) -> Figures:
    """Apply and observe ``times`` deployments that are settled; every two-hundredth is scaled, and so written.

    Memory and threads are told once all are made, after the first thousand, and at the end.
    """
    asked: collections.Counter[bool] = collections.Counter()

    def count(request: Request) -> None:
        asked[request.writes] += 1

    seconds: list[float] = []
    figures: Figures = {}
    with contextlib.closing(KubeClient(credentials)) as client:
        client.on_request = count
        driver = KubernetesDriver(client, ClusterFacts(installation="bench"))
        specs = [spec_of(number, projects=PROJECTS) for number in range(DEPLOYMENTS)]
        for spec in specs:
            driver.apply(spec)
        figures |= {"reconciles_objects_written_per_order": asked[True] / DEPLOYMENTS}
        figures |= _process("start")
        asked.clear()
        written = 0
        for number in range(1, times + 1):
            at = number % DEPLOYMENTS
            scaled = number % SCALE_EVERY == 0
            if scaled:
                specs[at] = dataclasses.replace(specs[at], replicas=3 - specs[at].replicas)
            begun = time.perf_counter()
            changed = driver.apply(specs[at])
            status = driver.observe(specs[at].name)
            if not scaled:
                seconds.append(time.perf_counter() - begun)
            if changed is not scaled or status is None:
                raise RuntimeError(f"pass {number} wrote {changed}, and the deployment is {status}")
            written += scaled
            if number == WARM:
                figures |= _process(f"after_{WARM}")
        figures |= _process(f"after_{times}")
    figures["reconciles_reads_each"] = asked[False] / times
    figures["reconciles_writes_of_settled"] = asked[True] - written
    return figures | quantiles("reconcile_settled", [each * 1000 for each in seconds], "ms")


def _process(when: str) -> Figures:
    gc.collect()
    process = psutil.Process()
    return {
        f"reconciles_rss_{when}_mib": process.memory_info().rss / MIB,
        f"reconciles_threads_{when}": process.num_threads(),
        f"reconciles_open_files_{when}": process.num_fds(),
    }


if __name__ == "__main__":
    print(json.dumps(measure(Credentials(**json.loads(sys.stdin.read())), int(sys.argv[1]))))
