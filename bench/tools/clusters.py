"""Steps on many settled endpoints, in a process of its own because Django is set up for one database.

``python -m bench.tools.clusters`` reads a step a line and answers each with a line, in JSON.
"""

from __future__ import annotations

import collections
import json
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager
from typing import Any, Final

import django
from django.db import connection

from bench.tools import pods
from bench.tools.berth import Berth
from bench.tools.load import ROOT

WRITING: Final = ("INSERT", "UPDATE", "DELETE")


def prepare(*, gpus: int) -> None:
    """Pin an image, say where the model's weights are, and make a tenant that may hold ``gpus``."""
    from bench.tools import estate

    estate.prepare(gpus=gpus)


def settle(*, prefix: str, credentials: list[dict[str, str]], endpoints: int) -> dict[str, list[str]]:
    """Register a cluster for each of ``credentials`` and bring it to settled endpoints; give their ids by cluster.

    The clusters may be one API server: they keep apart by their projects.
    """
    from bench.tools import estate
    from clusters.kube.credentials import Credentials

    addresses = pods.addresses()
    return {
        f"{prefix}-{number}": estate.settle(
            estate.register(f"{prefix}-{number}", Credentials(**each)),
            endpoints=endpoints,
            addresses=addresses,
        )
        for number, each in enumerate(credentials)
    }


def resync(*, clusters: list[str]) -> list[dict[str, float]]:
    """Compare each cluster named with what is wanted there; give seconds, reads and writes, and what had drifted."""
    from clusters.endpoints.resync import resync_cluster
    from clusters.models import Cluster

    found = []
    for cluster in Cluster.objects.filter(name__in=clusters).order_by("name"):
        with _counted([cluster]) as counts:
            begun = time.perf_counter()
            drifted = resync_cluster(cluster)
            seconds = time.perf_counter() - begun
        found.append({"seconds": seconds, "drifted": drifted, **counts})
    return found


def passes(*, clusters: list[str], endpoints: list[str]) -> dict[str, Any]:
    """Run one pass over each endpoint; give the seconds of each and the sums of what they asked for and wrote."""
    from clusters.endpoints.reconcile import reconcile_endpoint
    from clusters.models import Cluster

    seconds, unsettled = [], 0
    with _counted(Cluster.objects.filter(name__in=clusters)) as counts:
        for endpoint_id in endpoints:
            begun = time.perf_counter()
            unsettled += reconcile_endpoint(endpoint_id) is not None
            seconds.append(time.perf_counter() - begun)
    return {"seconds": seconds, "unsettled": unsettled, **counts}


@contextmanager
def _counted(clusters: Sequence[Any]) -> Iterator[collections.Counter[str]]:
    """Count what is asked of clusters and of the database, and what is written to either."""
    from clusters.drivers.kubernetes.driver import KubernetesDriver
    from clusters.inventory.drivers import driver_of
    from clusters.kube.client import Request

    counts = collections.Counter(reads=0, writes=0, statements=0, rows_written=0)

    def asked(request: Request) -> None:
        counts["writes" if request.writes else "reads"] += 1

    def executed(execute: Callable[..., Any], sql: str, params: Any, many: bool, context: Any) -> Any:
        counts["statements"] += 1
        answer = execute(sql, params, many, context)
        if sql.lstrip().upper().startswith(WRITING):
            counts["rows_written"] += max(0, context["cursor"].rowcount)
        return answer

    clients = [driver.client for each in clusters if isinstance(driver := driver_of(each), KubernetesDriver)]
    with ExitStack() as stack:
        stack.enter_context(connection.execute_wrapper(executed))
        for client in clients:
            client.on_request = asked
            stack.callback(setattr, client, "on_request", None)
        yield counts


STEPS: Final = {"prepare": prepare, "settle": settle, "resync": resync, "passes": passes}


class Steps:
    """The process, seen from the one that measures."""

    def __init__(self, process: subprocess.Popen[str]) -> None:
        self._process = process

    def begin(self, name: str, **told: Any) -> None:
        """Have a step carried out."""
        if self._process.stdin is None:
            raise RuntimeError("it was started without an input")
        self._process.stdin.write(json.dumps([name, told]) + "\n")
        self._process.stdin.flush()

    def result(self) -> Any:
        """Wait for the end of the step that was begun; give what came out."""
        line = self._process.stdout.readline() if self._process.stdout else ""
        if not line:
            raise RuntimeError("a step failed; what it said is above")
        return json.loads(line)

    def take(self, name: str, **told: Any) -> Any:
        """Carry out a step and give what came out."""
        self.begin(name, **told)
        return self.result()


@contextmanager
def steps(berth: Berth) -> Iterator[Steps]:
    """Start the process on the database of ``berth``."""
    command = [sys.executable, "-m", "bench.tools.clusters"]
    process = subprocess.Popen(
        command,
        cwd=ROOT,
        env=berth.environment() | {"LOG_LEVEL": "ERROR"},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
    )
    try:
        yield Steps(process)
    finally:
        if process.stdin is not None:
            process.stdin.close()
        process.wait(60)


if __name__ == "__main__":
    django.setup()
    for line in sys.stdin:
        step, arguments = json.loads(line)
        print(json.dumps(STEPS[step](**arguments)), flush=True)
