"""The operators' rules for the advisor, called ``advisor``."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Final

from clusters.api.advice import PolicyBody
from clusters.endpoints.advisor.policy import FIELDS, policy_set
from clusters.models import AdvicePolicy
from portal.configuration.applier import Applier
from portal.configuration.documents import Document
from portal.configuration.kinds.base import CHANGED, LEFT, Done, Kind, Wanted, changed_values, fields_spec
from tenants.errors import Invalid
from tenants.roles import PlatformAction

ADVISOR: Final = "advisor"


class AdvicePolicyKind(Kind):
    name = "AdvicePolicy"
    of_tenants = False
    action = PlatformAction.MANAGE_FLEET
    view = PlatformAction.VIEW_FLEET
    spec_class = PolicyBody

    def rows(self) -> Iterable[AdvicePolicy]:
        return [AdvicePolicy.current()]

    def find(self, name: str) -> AdvicePolicy | None:
        return AdvicePolicy.current() if name == ADVISOR else None

    def name_of(self, row: AdvicePolicy) -> str:
        return ADVISOR

    def spec(self, row: AdvicePolicy) -> dict[str, Any]:
        return fields_spec(row, FIELDS)

    def create(self, document: Document, wanted: Wanted, by: Applier) -> Done:
        text = f"The advisor has one policy: name it {ADVISOR}."
        raise Invalid(text, errors={"metadata.name": [text]})

    def change(
        self, row: AdvicePolicy, document: Document, wanted: Wanted, changed: frozenset[str], by: Applier
    ) -> Done:
        return Done(result=CHANGED, row=policy_set(**changed_values(wanted, changed)))

    def remove(self, row: AdvicePolicy, by: Applier) -> Done:
        return Done(result=LEFT, row=row, note="The advisor always has a policy; it stays as it is.")
