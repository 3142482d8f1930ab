"""The driver's side: wanting, looking, taking back."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Mapping, Sequence

from clusters.drivers.base import Away, DriverError, GiveUp, TryLater
from clusters.drivers.local.folder import HEARTBEAT_STALE_S, ClusterFolder, Heartbeat, check_name
from clusters.specs import DeploymentSpec, DeploymentStatus, GatewaySpec, GatewayStatus
from clusters.triton.errors import InvalidDeployment
from clusters.triton.repository import RUNTIME, EngineSpec, config_pbtxt
from embedded.datadir import DataDir, open_data_dir
from embedded.processes import log_tail

_NO_GATEWAYS = "a local cluster runs no gateway of its own; the embedded services do"


def engine_spec(spec: DeploymentSpec) -> EngineSpec:
    """Give what each engine of ``spec`` is to serve.

    Raises:
        GiveUp: this machine can never serve it.
    """
    if spec.runtime != RUNTIME:
        raise GiveUp(f"runtime {spec.runtime!r} needs a GPU cluster; this machine runs {RUNTIME!r} only")
    try:
        return EngineSpec.parse(
            model=spec.model,
            context_tokens=spec.context_tokens,
            max_output_tokens=spec.max_output_tokens,
            max_batch_size=spec.max_batch_size,
            parameters=spec.parameters,
        )
    except InvalidDeployment as error:
        raise GiveUp(str(error)) from error


class LocalDriver:
    """A cluster of this machine's own processes; see `clusters.drivers.base.Driver`.

    ``data_dir`` is the folder that its supervisor works on, by default what the environment names.
    """

    def __init__(self, data_dir: DataDir | str | os.PathLike[str] | None, cluster_name: str) -> None:
        opened = data_dir if isinstance(data_dir, DataDir) else open_data_dir(data_dir)
        self._folder = ClusterFolder(opened, cluster_name)
        self._heartbeat = Heartbeat(opened)

    def apply(self, spec: DeploymentSpec) -> bool:
        check_name("deployment", spec.name)
        engine_spec(spec)
        if spec.replicas < 0:
            raise GiveUp(f"replicas must not be negative, got {spec.replicas}")
        self._check_supervised()
        with self._folder.locked():
            if self._folder.read_desired(spec.name) == spec:
                return False
            self._folder.write_desired(spec)
        return True

    def render(self, spec: DeploymentSpec) -> Mapping[str, str]:
        return {"config.pbtxt": config_pbtxt(engine_spec(spec))}

    def drifted(self, specs: Sequence[DeploymentSpec]) -> Mapping[str, Sequence[str] | DriverError]:
        self._check_supervised()
        return {spec.name: self._drift(spec) for spec in specs}

    def replace(self, name: str, replica_id: str) -> bool:
        raise GiveUp("this machine is one node; its supervisor replaces engines by itself")

    def observe(self, name: str) -> DeploymentStatus | None:
        self._check_supervised()
        return self._observe(check_name("deployment", name))

    def delete(self, name: str) -> bool:
        check_name("deployment", name)
        with self._folder.locked():
            self._folder.remove_desired(name)
            gone = not self._folder.has_status(name)
        self._check_supervised()
        return gone

    def deployments(self) -> Sequence[DeploymentStatus]:
        self._check_supervised()
        found = (self._observe(name) for name in self._folder.names())
        return [status for status in found if status is not None]

    def logs(self, name: str, replica_id: str, *, lines: int = 100) -> str:
        self._check_supervised()
        return log_tail(self._folder.log(check_name("deployment", name), replica_id), lines)

    def apply_gateway(self, spec: GatewaySpec) -> bool:
        raise GiveUp(_NO_GATEWAYS)

    def observe_gateway(self, name: str) -> GatewayStatus | None:
        raise GiveUp(_NO_GATEWAYS)

    def delete_gateway(self, name: str) -> bool:
        raise GiveUp(_NO_GATEWAYS)

    def _drift(self, spec: DeploymentSpec) -> Sequence[str] | DriverError:
        try:
            check_name("deployment", spec.name)
            engine_spec(spec)
        except GiveUp as error:
            return error
        desired = self._folder.read_desired(spec.name)
        if desired is None:
            return ["it is not ordered"]
        return [] if desired == spec else ["another spec is ordered"]

    def _observe(self, name: str) -> DeploymentStatus | None:
        # The status is read last: once there is none, nothing is left of a spec taken back before.
        desired = self._folder.read_desired(name)
        status = self._folder.read_status(name)
        if desired is None:
            return status and dataclasses.replace(status, deleting=True)
        if status is None:
            return DeploymentStatus(name=name, labels=desired.labels, spec=desired, replicas=())
        return dataclasses.replace(status, labels=desired.labels, spec=desired, deleting=False)

    def _check_supervised(self) -> None:
        if self._folder.lost:
            raise Away("the cluster does not answer: it is marked as lost", delay=2.0)
        age = self._heartbeat.age_s()
        if age is None:
            raise TryLater("the local supervisor is not running; `make demo` starts it", delay=2.0)
        if age > HEARTBEAT_STALE_S:
            raise TryLater(f"the local supervisor has not been heard of for {age:.0f} s", delay=2.0)
