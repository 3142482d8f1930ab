"""Fleet problems and plans as JSON, in the fields of ``clusters.planning.placement.fleet``."""

from __future__ import annotations

import re
from typing import Final

import msgspec

from clusters.planning.placement.fleet import FleetPlan, FleetProblem
from clusters.planning.problem import ProblemError

_PATH: Final = re.compile(r" - at `\$\.?(?P<path>[^`]*)`$")


def problem_from_json(document: bytes) -> FleetProblem:
    """Read a problem. Fields that are not known are passed over.

    Raises:
        ProblemError: it is not JSON, a field is missing or of the wrong type, or the parts contradict; ``field``
            names the item, such as ``pools[3].free[0]``.
    """
    try:
        return msgspec.json.decode(document, type=FleetProblem)
    except msgspec.ValidationError as error:
        if isinstance(error.__cause__, ProblemError):
            raise error.__cause__ from None
        path = _PATH.search(str(error))
        raise ProblemError(path["path"] if path else "problem", _PATH.sub("", str(error))) from error
    except (msgspec.DecodeError, UnicodeDecodeError, RecursionError) as error:
        raise ProblemError("problem", f"not JSON: {error}") from error


def plan_to_json(plan: FleetPlan) -> bytes:
    """Write a plan."""
    return msgspec.json.encode(plan)
