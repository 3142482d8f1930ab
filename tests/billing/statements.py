"""Statements made line by line, for tests of what is made from them."""

from __future__ import annotations

import datetime as dt
import uuid
from decimal import Decimal

from billing.models import Commitment, Statement, StatementLine
from tenants import scope
from tests.billing.prices import utc

MAY, APRIL = dt.date(2026, 5, 1), dt.date(2026, 4, 1)
START, END = utc("2026-04-30T22:00"), utc("2026-05-31T22:00")  # May in Berlin
Kind = StatementLine.Kind
D = Decimal


class Draft:
    """A statement of May whose lines are put one after the other and then written at once."""

    def __init__(self, tenant, project, *, month: dt.date = MAY, start=START, end=END) -> None:
        self.tenant, self.project, self.month, self.start, self.end = tenant, project, month, start, end
        self.lines: list[StatementLine] = []

    def put(self, kind: str, quantity: str, unit_price: str, amount: str, **facts) -> StatementLine:
        tokens = kind in (Kind.TOKENS,)
        facts = {
            "basis": StatementLine.Basis.USAGE if tokens else StatementLine.Basis.ALLOCATION,
            "charged": True,
            "service_month": self.month,
            "service_start": self.start,
            "service_end": self.end,
            "project": self.project,
            "project_name": self.project.name,
            "cost_centre": "4711",
            "endpoint_id": uuid.UUID(int=7),
            "endpoint_name": "chat",
            "model": "guide",
            "slo_class": "standard",
            "region": "de-1",
            "gpu_type": "" if tokens else "h100_sxm",
            "sku": "output-tokens:guide:standard" if tokens else "gpu-hours:h100_sxm:de-1",
            "description": "Output tokens, guide, standard" if tokens else "GPU-hours, h100_sxm, de-1",
            "unit": "million tokens" if tokens else "GPU-hour",
            "list_unit_price": D(unit_price),
            "list_amount": D(amount),
            "effective_amount": D(amount),
            "price_id": "price-1",
            "how": [],
        } | facts
        line = StatementLine(
            tenant=self.tenant,
            position=len(self.lines) + 1,
            kind=kind,
            quantity=D(quantity),
            unit_price=D(unit_price),
            amount=D(amount),
            **facts,
        )
        self.lines.append(line)
        return line

    def write(self, *, number: str = "2026-05-000001", state: str = Statement.State.FINAL) -> Statement:
        charged = [line.amount for line in self.lines if line.charged]
        with scope.tenant(self.tenant.id):
            statement = Statement.objects.create(
                tenant=self.tenant, month=self.month, currency=self.tenant.currency,
                tenant_name=self.tenant.name, time_zone=self.tenant.time_zone,
                period_start=self.start, period_end=self.end,
                charges=sum((each for each in charged if each > 0), D(0)),
                credits=sum((each for each in charged if each < 0), D(0)),
                total=sum(charged, D(0)), computed_at=self.end,
            )  # fmt: skip
            for line in self.lines:
                line.statement = statement
            StatementLine.objects.bulk_create(self.lines)
            if state == Statement.State.FINAL:
                statement.number, statement.finalized_at = number, self.end + dt.timedelta(days=3)
                statement.inputs_sha256, statement.document_sha256 = "1" * 64, "2" * 64
            statement.state = state
            statement.save()
        return statement


def commitment(tenant, *, gpus: int = 1, rate: str = "2.4", name: str = "Two years of H100") -> Commitment:
    """Commit the tenant to GPUs for all of 2026."""
    with scope.tenant(tenant.id):
        return Commitment.objects.create(
            tenant=tenant, name=name, gpu_type="h100_sxm", region="de-1", gpus=gpus, rate=D(rate),
            currency=tenant.currency, starts_at=utc("2026-01-01"), ends_at=utc("2027-01-01"),
        )  # fmt: skip


def every_kind(tenant, project, **write) -> Statement:
    """Write a statement of May with every kind of line: charged 2,345.20 less 62.50 of credits."""
    draft = Draft(tenant, project)
    taken = commitment(tenant)
    nobody = {"endpoint_id": None, "endpoint_name": "", "model": "", "slo_class": "", "gpu_type": ""}
    whole = nobody | {"project": None, "project_name": "", "cost_centre": "", "region": ""}
    used = {"commitment_id": taken.id, "description": "GPU-hours, h100_sxm, de-1, by commitment"}
    draft.put(Kind.GPU_TIME, "100.3333333333", "3.6", "361.20")
    draft.put(Kind.GPU_TIME, "600", "0", "0", **used, list_unit_price=D("3.6"), list_amount=D(2160),
              effective_amount=D(1440))  # fmt: skip
    draft.put(Kind.IDLE_GPU_TIME, "44", "0", "0", **used, list_unit_price=D("3.6"),
              list_amount=D("158.4"), effective_amount=D("105.6"), sku="idle-gpu-hours:h100_sxm:de-1")  # fmt: skip
    draft.put(Kind.GPU_TIME, "4", "0", "0", **used, charged=False, list_unit_price=D("3.6"),
              list_amount=D("14.4"), effective_amount=D("9.6"))  # fmt: skip
    draft.put(Kind.IDLE_GPU_TIME, "12.5", "3.6", "45", description="Idle GPU-hours, h100_sxm, de-1",
              sku="idle-gpu-hours:h100_sxm:de-1")  # fmt: skip
    draft.put(Kind.TOKENS, "250.123456", "1.5", "375.19", charged=False)
    shared = {"endpoint_id": uuid.UUID(int=8), "endpoint_name": "shared-guide"}
    draft.put(Kind.TOKENS, "12.000001", "1.5", "18", **shared)
    draft.put(Kind.TOKENS, "40", "0.5", "20", **shared, sku="input-tokens:guide:standard",
              description="Input tokens, guide, standard")  # fmt: skip
    draft.put(Kind.SHARED_GPU_TIME, "3.25", "3.6", "11.7", charged=False, **shared)
    draft.put(Kind.TOKENS, "10", "1.5", "15", correction=True, service_month=APRIL,
              service_start=utc("2026-03-31T22:00"), service_end=START, **shared)  # fmt: skip
    draft.put(Kind.GPU_TIME, "-0.5", "3.6", "-1.8", correction=True, service_month=APRIL,
              service_start=utc("2026-03-31T22:00"), service_end=START)  # fmt: skip
    draft.put(Kind.COMMITMENT, "744", "2.4", "1785.60", **whole | {"gpu_type": "h100_sxm", "region": "de-1"},
              commitment_id=taken.id, list_unit_price=D("3.6"), list_amount=D("2678.4"),
              sku="commitment:h100_sxm:de-1", description="Committed GPU-hours, h100_sxm, de-1")  # fmt: skip
    draft.put(Kind.SLO_CREDIT, "1", "0", "-40.62", **{**nobody, "endpoint_id": uuid.UUID(int=7)},
              sku="slo-credit", description="Credit of 10 % for availability of May", unit="credit")  # fmt: skip
    draft.put(Kind.CREDIT, "1", "0", "-20.08", **whole, sku="credit", description="Goodwill", unit="credit")
    return draft.write(**write)
