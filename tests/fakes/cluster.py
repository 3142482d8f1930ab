"""A cluster by hand: obeys the driver protocol, logs its calls, fails when told to."""

from __future__ import annotations

import dataclasses
import datetime as dt
import itertools
from collections.abc import Mapping, Sequence

from clusters.drivers.base import DriverError
from clusters.specs import (
    DeploymentSpec,
    DeploymentStatus,
    GatewaySpec,
    GatewayStatus,
    Phase,
    ReplicaStatus,
)

_ids = itertools.count(1)


class FakeCluster:
    """Keeps deployments in memory. ``writes`` logs what changed it; ``next_error`` is raised once.

    Engines start as ``starting`` and become ready by :meth:`make_ready`, or at once with ``ready_at_once``.
    """

    def __init__(self, *, ready_at_once: bool = False) -> None:
        self.ready_at_once = ready_at_once
        self.pending = False  # engines find no GPUs
        self.specs: dict[str, DeploymentSpec] = {}
        self.replicas: dict[str, list[ReplicaStatus]] = {}
        self.draining: set[str] = set()
        self.slow_delete = False
        self.writes: list[tuple[str, str]] = []
        self.next_error: DriverError | None = None
        self.away: DriverError | None = None
        self.nodes: list[str] = []  # where its engines land, in turn
        self.gateways: dict[str, GatewaySpec] = {}
        self.ready_gateways: dict[str, int] = {}
        self.gateway_message = ""

    def apply(self, spec: DeploymentSpec) -> bool:
        self._maybe_fail()
        if self.specs.get(spec.name) == spec:
            return False
        self.writes.append(("apply", spec.name))
        self.specs[spec.name] = spec
        present = self.replicas.setdefault(spec.name, [])
        while len(present) < spec.replicas:
            present.append(self._replica(len(present)))
        del present[spec.replicas :]
        return True

    def render(self, spec: DeploymentSpec) -> Mapping[str, str]:
        return {"spec": f"{spec.runtime} on {spec.gpu_type}, precision {spec.precision}\n"}

    def drifted(self, specs: Sequence[DeploymentSpec]) -> Mapping[str, Sequence[str] | DriverError]:
        self._maybe_fail()
        return {
            spec.name: [] if self.specs.get(spec.name) == spec else ["it is not as ordered"] for spec in specs
        }

    def replace(self, name: str, replica_id: str) -> bool:
        self._maybe_fail()
        for index, replica in enumerate(self.replicas.get(name, [])):
            if replica.replica_id == replica_id:
                self.replicas[name][index] = self._replica(index)
                return True
        return False

    def observe(self, name: str) -> DeploymentStatus | None:
        self._maybe_fail()
        return self._status(name) if name in self.specs else None

    def delete(self, name: str) -> bool:
        self._maybe_fail()
        if name not in self.specs:
            return True
        if ("delete", name) not in self.writes:
            self.writes.append(("delete", name))
        if self.slow_delete:
            self.draining.add(name)
            return False
        del self.specs[name], self.replicas[name]
        return True

    def deployments(self) -> Sequence[DeploymentStatus]:
        self._maybe_fail()
        return [self._status(name) for name in self.specs]

    def logs(self, name: str, replica_id: str, *, lines: int = 100) -> str:
        return f"log of {replica_id}"

    def apply_gateway(self, spec: GatewaySpec) -> bool:
        self._maybe_fail()
        held = self.gateways.get(spec.name)
        if held == spec and (held.token, held.peppers) == (spec.token, spec.peppers):
            return False
        self.writes.append(("apply-gateway", spec.name))
        self.gateways[spec.name] = spec
        return True

    def observe_gateway(self, name: str) -> GatewayStatus | None:
        self._maybe_fail()
        spec = self.gateways.get(name)
        if spec is None:
            return None
        ready = min(self.ready_gateways.get(name, 0), spec.replicas)
        return GatewayStatus(name=name, ready=ready, wanted=spec.replicas, message=self.gateway_message)

    def delete_gateway(self, name: str) -> bool:
        self._maybe_fail()
        if name not in self.gateways:
            return True
        self.writes.append(("delete-gateway", name))
        if not self.slow_delete:
            del self.gateways[name]
        return name not in self.gateways

    def make_ready(self, name: str | None = None) -> None:
        """Let every engine (of one deployment) answer."""
        for each in [name] if name else list(self.replicas):
            self.replicas[each] = [
                dataclasses.replace(
                    replica, phase=Phase.READY, ready_at=_now(), url="http://127.0.0.1:1", message=""
                )
                for replica in self.replicas[each]
            ]

    def crash(self, name: str, index: int = 0) -> None:
        """Let an engine die and another one start in its place."""
        self.replicas[name][index] = self._replica(index)

    def fail(self, name: str, message: str) -> None:
        """Let every engine of a deployment give up."""
        self.replicas[name] = [
            dataclasses.replace(replica, phase=Phase.FAILED, message=message)
            for replica in self.replicas[name]
        ]

    def _replica(self, index: int) -> ReplicaStatus:
        ready = self.ready_at_once
        return ReplicaStatus(
            replica_id=f"fake-{next(_ids)}",
            index=index,
            phase=Phase.READY if ready else Phase.PENDING if self.pending else Phase.STARTING,
            url="http://127.0.0.1:1" if ready else None,
            engine_model="ensemble",
            message="" if ready else "loading the model",
            started_at=None if self.pending else _now(),
            ready_at=_now() if ready else None,
            node=self.nodes[index % len(self.nodes)] if self.nodes else "",
        )

    def _status(self, name: str) -> DeploymentStatus:
        spec = self.specs[name]
        return DeploymentStatus(
            name=name,
            labels=spec.labels,
            spec=spec,
            replicas=tuple(self.replicas[name]),
            deleting=name in self.draining,
        )

    def _maybe_fail(self) -> None:
        if self.away is not None:
            raise self.away
        error, self.next_error = self.next_error, None
        if error is not None:
            raise error


def _now() -> dt.datetime:
    return dt.datetime.now(dt.UTC)
