"""Kubernetes clusters: orders and changes end to end, a thousand settled endpoints, a dead cluster, a long run.

The API server is the real one where its programs are found, else the stand-in of the tests; ``api_server`` says
which. All clusters are registrations of that one server, each with endpoints of a project of its own.
"""

from __future__ import annotations

import contextlib
import dataclasses
import json
import subprocess
import sys
import time
from collections.abc import Sequence
from typing import Any, Final

from bench.tools import api_server, berth, clusters, dead_cluster, live_cluster, pods
from bench.tools.api_server import ApiServer
from bench.tools.figures import Figures, quantiles
from bench.tools.load import ROOT
from clusters.kube import kinds
from clusters.kube.client import KubeClient

ENDPOINTS: Final = 1_000
CLUSTERS: Final = 4
RECONCILES: Final = 10_000
WORKERS: Final = 2


def measure() -> Figures:
    """Measure the four parts one after another; the processes of each end before the next."""
    figures: Figures = {}
    with api_server.running() as server:
        figures["api_server"] = server.kind
        figures |= live_cluster.measure(server)
    with api_server.running() as server:
        figures |= dead_cluster.measure(server)
    with api_server.running() as server:
        figures |= _settled(server)
    with api_server.running() as server:
        figures |= _one_driver(server)
    return figures


def _settled(server: ApiServer) -> Figures:
    """Compare a thousand settled endpoints over four clusters, and run a pass over each in two processes.

    Reads and writes are counted by the client, as is what the database is asked; that no object got another
    version is seen at the API server.
    """
    each = ENDPOINTS // CLUSTERS
    with berth.web() as web, contextlib.ExitStack() as stack:
        workers = [stack.enter_context(clusters.steps(web)) for _ in range(WORKERS)]
        with contextlib.closing(KubeClient(server.admin)) as client:
            pods.add_nodes(client, [f"gpu-{number:04}" for number in range(-(-ENDPOINTS // pods.GPUS))])
        workers[0].take("prepare", gpus=2 * ENDPOINTS)
        made: dict[str, list[str]] = workers[0].take(
            "settle",
            prefix="settled",
            credentials=[dataclasses.asdict(server.admin)] * CLUSTERS,
            endpoints=each,
        )
        before = server.versions()
        resynced = workers[0].take("resync", clusters=list(made))
        passed = _passes(workers, made)
        after = server.versions()
        figures: Figures = {
            "settled_endpoints": sum(map(len, made.values())),
            "settled_clusters": len(made),
            "settled_objects": len(before),
        }
    return (
        figures
        | _of_resync(resynced)
        | _of_passes(passed)
        | {"settled_objects_changed": sum(before.get(uid) != version for uid, version in after.items())}
    )


def _passes(workers: Sequence[clusters.Steps], made: dict[str, list[str]]) -> dict[str, Any]:
    ids = [each for endpoints in made.values() for each in endpoints]
    begun = time.perf_counter()
    for number, worker in enumerate(workers):
        worker.begin("passes", clusters=list(made), endpoints=ids[number :: len(workers)])
    results = [worker.result() for worker in workers]
    sums = {name: sum(each[name] for each in results) for name in results[0] if name != "seconds"}
    seconds = [value for each in results for value in each["seconds"]]
    return {**sums, "seconds": seconds, "whole": time.perf_counter() - begun}


def _of_resync(resynced: Sequence[dict[str, float]]) -> Figures:
    return {
        "resync_all_s": sum(each["seconds"] for each in resynced),
        "resync_reads_per_cluster": max(each["reads"] for each in resynced),
        "resync_statements_per_cluster": max(each["statements"] for each in resynced),
        "resync_writes": sum(each["writes"] for each in resynced),
        "resync_rows_written": sum(each["rows_written"] for each in resynced),
        "resync_drifted": sum(each["drifted"] for each in resynced),
    }


def _of_passes(passed: dict[str, Any]) -> Figures:
    count = len(passed["seconds"])
    return {
        "passes": count,
        "passes_all_s": passed["whole"],
        **quantiles("pass", [1000 * each for each in passed["seconds"]], "ms"),
        "pass_reads_each": passed["reads"] / count,
        "pass_statements_each": passed["statements"] / count,
        "passes_writes": passed["writes"],
        "passes_rows_written": passed["rows_written"],
        "passes_unsettled": passed["unsettled"],
    }


def _one_driver(server: ApiServer) -> Figures:
    """Settle through one driver again and again: does it grow?"""
    done = subprocess.run(
        [sys.executable, "-m", "bench.tools.reconciles", str(RECONCILES)],
        cwd=ROOT,
        input=json.dumps(dataclasses.asdict(server.admin)),
        stdout=subprocess.PIPE,
        text=True,
        check=True,
    )
    figures: Figures = json.loads(done.stdout)
    return figures | {"reconciles_deployments": server.count(kinds.DEPLOYMENT)}
