"""Which runbook tells what to do about a trouble: one page in docs/runbooks for each, by its name without ``.md``."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from clusters.endpoints.states import BUDGET_SPENT, POLICY_REFUSED
from clusters.models import Condition, EndpointState
from clusters.specs import Trouble

#: Where the portal serves the pages.
AT: Final = "/docs/runbooks/"

_TYPE: Final = Condition.Type

#: By what troubles a replica, which is the reason of the condition EngineReady, too.
OF_TROUBLE: Final[Mapping[str, str]] = {
    Trouble.UNSCHEDULABLE: "gpu-fault",
    Trouble.IMAGE_PULL: "model-load-failure",
    Trouble.WEIGHTS: "model-load-failure",
    Trouble.BUILD: "model-load-failure",
    Trouble.OUT_OF_MEMORY: "out-of-memory",
    Trouble.CRASH_LOOP: "model-load-failure",
    Trouble.REFUSED: "cluster-refuses",
    Trouble.NODE: "gpu-fault",
    Trouble.GAVE_UP: "model-load-failure",
}

#: By a condition's type and its reason while it is not as it should be.
OF_CONDITION: Final[Mapping[tuple[str, str], str]] = {
    (_TYPE.PLACED, "NoCapacity"): "no-capacity",
    (_TYPE.PLACED, "NotPlaceable"): "no-capacity",
    (_TYPE.PLACED, BUDGET_SPENT): "not-permitted",
    (_TYPE.PLACED, POLICY_REFUSED): "not-permitted",
    (_TYPE.PLACED, "ClusterLost"): "region-lost",
    (_TYPE.PROVISIONED, "Refused"): "cluster-refuses",
    **{(_TYPE.ENGINE_READY, reason): page for reason, page in OF_TROUBLE.items()},
    (_TYPE.ROUTED, "NoGateway"): "no-gateway",
    (_TYPE.ROUTED, "GatewaySilent"): "gateway-down",
    (_TYPE.REACHABLE, "Away"): "region-lost",
    (_TYPE.REACHABLE, "ClusterLost"): "region-lost",
    (_TYPE.IN_SYNC, "Drifted"): "changed-by-others",
    (_TYPE.LOAD_DRIFT, "OutsideTheOrder"): "load-drift",
    (_TYPE.POLICY, "OutsidePolicy"): "not-permitted",
    (_TYPE.SCALING, "NoCapacity"): "scaling-held-back",
    (_TYPE.SCALING, "OverQuota"): "scaling-held-back",
    (_TYPE.SCALING, BUDGET_SPENT): "scaling-held-back",
    (_TYPE.SCALING, POLICY_REFUSED): "scaling-held-back",
    (_TYPE.SCALING, "NeedsApproval"): "scaling-held-back",
}

#: By an endpoint's state, where no condition tells of it.
OF_STATE: Final[Mapping[str, str]] = {EndpointState.UPDATE_FAILED: "update-failed"}

#: Reasons that tell of no trouble: somebody decides, or work is under way; nothing has to be mended.
NO_TROUBLE: Final[Mapping[tuple[str, str], str]] = {
    (_TYPE.APPROVED, "Pending"): "somebody decides; the request says who",
    (_TYPE.PROVISIONED, "Changing"): "another revision is being started",
    (_TYPE.ENGINE_READY, "Changing"): "another revision is being started",
    (_TYPE.ROUTED, "Changing"): "another revision is being started",
    (_TYPE.ENGINE_READY, "Starting"): "engines are being started",
    (_TYPE.ROUTED, "NoEngine"): "EngineReady says why none answers",
    (_TYPE.ROUTED, "Propagating"): "gateways are taking up the route",
}


def runbook(page: str) -> str:
    """Give the address of a page in the portal, empty for none."""
    return f"{AT}{page}" if page else ""


def runbook_of(condition: Condition) -> str:
    """Give the address of what to do about a condition, empty while it is as it should be or nothing is to be done."""
    if condition.good:
        return ""
    return runbook(OF_CONDITION.get((condition.type, condition.reason), ""))


def runbook_of_state(state: str) -> str:
    """Give the address of what to do about an endpoint's state, empty where its conditions tell more."""
    return runbook(OF_STATE.get(state, ""))


def runbook_of_trouble(trouble: str) -> str:
    """Give the address of what to do about what troubles a replica, empty where nothing does."""
    return runbook(OF_TROUBLE.get(trouble, ""))
