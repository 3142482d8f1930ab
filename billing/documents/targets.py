"""What a statement's month was against the targets of its endpoints' classes: what credits come from."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from decimal import Decimal

from billing.models import EndpointLabel, Statement
from billing.statements.attainment import missed_targets
from billing.statements.gather import attained
from billing.statements.inputs import Attained, opened
from billing.statements.windows import Window


@dataclasses.dataclass(frozen=True)
class Target:
    """One endpoint's month: what was reached, what was missed of it, and the share that is given back."""

    endpoint: str
    found: Attained
    missed: tuple[str, ...]

    @property
    def availability(self) -> Decimal:
        """The share of requests that did not fail."""
        return 1 - Decimal(self.found.failed) / self.found.requests


def targets_of(statement: Statement) -> list[Target]:
    """Give what the statement's endpoints reached, by name: of a final one as it was sealed, else as it stands now."""
    if statement.state == Statement.State.FINAL and statement.inputs:
        inputs = opened(bytes(statement.inputs))
        names = {endpoint.id: endpoint.name for endpoint in inputs.endpoints}
        found: Sequence[Attained] = inputs.month.attained
    else:
        window = Window(
            month=statement.month,
            start=statement.period_start,
            end=statement.period_end,
            until=statement.computed_at,
        )
        found = attained(window, [statement.tenant_id]).get(statement.tenant_id, [])
        names = dict(
            EndpointLabel.objects.filter(endpoint_id__in=[each.endpoint_id for each in found]).values_list(
                "endpoint_id", "name"
            )
        )
    targets = [
        Target(names.get(each.endpoint_id, str(each.endpoint_id)), each, tuple(missed_targets(each)))
        for each in found
        if each.requests
    ]
    return sorted(targets, key=lambda target: (target.endpoint, str(target.found.endpoint_id)))
