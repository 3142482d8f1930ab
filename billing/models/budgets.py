"""The budget ledger: budgets, their windows, what gateways hold of them, and what was crossed."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

from django.contrib.postgres.fields import ArrayField
from django.core.exceptions import ValidationError
from django.core.validators import MaxValueValidator, MinValueValidator
from django.db import models
from django.db.models import F, Q
from django.db.models.functions import Lower

from tenants.models import Project, TenantOwned

MOST = Decimal(10) ** 11


def default_alerts() -> list[int]:
    """Give the shares of a limit, in percent, that are told unless chosen otherwise."""
    return [50, 80, 100]


def _amount(**options: Any) -> models.DecimalField:
    # Tokens times a price per million with 10 places are whole multiples of 1e-16.
    return models.DecimalField(max_digits=32, decimal_places=16, default=0, **options)


class Budget(TenantOwned):
    """How much one owner may spend in each calendar window of the tenant's time zone.

    ``owner_id`` is the id of the key, the project or the tenant. On the basis ``tokens`` it counts requests: money at
    the price book, or input and output tokens together. On the basis ``gpu_time`` it counts the GPUs that its owner's
    dedicated endpoints hold: money at the price book, or hours of devices of any GPU type.
    """

    class OwnerKind(models.TextChoices):
        KEY = "key"
        PROJECT = "project"
        TENANT = "tenant"

    class Unit(models.TextChoices):
        MONEY = "money"
        TOKENS = "tokens"
        GPU_HOURS = "gpu_hours", "GPU-hours"

    class Basis(models.TextChoices):
        TOKENS = "tokens"
        GPU_TIME = "gpu_time", "GPU time"

    class Policy(models.TextChoices):
        """What happens once the limit is reached.

        ``warn`` refuses nothing. ``block_new`` refuses requests, or orders and what needs more GPUs. ``stop`` pauses
        the owner's endpoints, too.
        """

        WARN = "warn"
        BLOCK_NEW = "block_new", "Block new"
        STOP = "stop"

    class Period(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"

    name = models.CharField(max_length=80)
    owner_kind = models.CharField(max_length=8, choices=OwnerKind)
    owner_id = models.UUIDField()
    unit = models.CharField(max_length=12, choices=Unit)
    basis = models.CharField(max_length=8, choices=Basis, default=Basis.TOKENS)
    policy = models.CharField(max_length=12, choices=Policy, default=Policy.BLOCK_NEW)
    currency = models.CharField(max_length=3, blank=True, help_text="Of a budget in money; blank for others.")
    limit = models.DecimalField(
        max_digits=32, decimal_places=16, validators=[MinValueValidator(0), MaxValueValidator(MOST)]
    )
    period = models.CharField(max_length=8, choices=Period)
    alert_percents = ArrayField(
        models.PositiveSmallIntegerField(validators=[MinValueValidator(1), MaxValueValidator(100)]),
        default=default_alerts,
        blank=True,
        size=10,
    )
    mail_alerts = models.BooleanField(default=True, help_text="Alerts are sent by e-mail.")
    recipients = ArrayField(
        models.EmailField(), default=list, blank=True, size=20,
        help_text="Who gets its alerts. Empty: the tenant's owners, admins and billing role.",
    )  # fmt: skip
    active = models.BooleanField(default=True, help_text="Inactive: keeps its history and holds up nobody.")

    class Meta(TenantOwned.Meta):
        ordering = ["name"]
        constraints = [
            models.UniqueConstraint(
                "tenant_id",
                Lower("name"),
                name="budget_name_in_tenant",
                violation_error_message="A budget of this name exists already; choose another name.",
            ),
            models.CheckConstraint(condition=Q(limit__gte=0), name="budget_limit_not_negative"),
            models.CheckConstraint(
                condition=(Q(unit="money") & ~Q(currency="")) | (~Q(unit="money") & Q(currency="")),
                name="budget_money_has_a_currency",
            ),
            models.CheckConstraint(
                condition=Q(unit="money")
                | Q(unit="tokens", basis="tokens")
                | Q(unit="gpu_hours", basis="gpu_time"),
                name="budget_unit_fits_its_basis",
                violation_error_message="Tokens are counted of requests, GPU-hours of GPU time.",
            ),
            models.CheckConstraint(
                condition=~Q(owner_kind="key") | (Q(basis="tokens") & ~Q(policy="stop")),
                name="budget_of_a_key_counts_requests",
                violation_error_message="A key holds no GPUs and no endpoints: its budget counts requests, and "
                "cannot stop endpoints.",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.unit == self.Unit.TOKENS and self.limit != self.limit.to_integral_value():
            raise ValidationError({"limit": "A limit in tokens is a whole number."})

    @property
    def leased(self) -> bool:
        """Whether gateways hold it before each request. What only warns is counted afterwards."""
        return self.basis == self.Basis.TOKENS and self.policy != self.Policy.WARN


class BudgetWindow(TenantOwned):
    """One window of a budget, [``start``, ``end``). The sums are over its leases.

    ``excess`` is what lies beyond the limit although nobody granted it: spent before the limit was lowered, or
    given by an engine beyond what was asked of it. ``recalls`` counts the rounds in which gateways were asked to give
    back, ``questions`` the gateways that wait for an answer. ``alerted`` is the highest share that was told,
    ``spent_at`` and ``forecast_at`` when it was told that the limit is reached, and that it is expected to be passed.
    """

    budget = models.ForeignKey(Budget, on_delete=models.CASCADE, related_name="windows")
    start = models.DateTimeField()
    end = models.DateTimeField()
    limit = _amount()
    granted = _amount()
    settled = _amount()
    held = _amount()
    excess = _amount()
    recalls = models.BigIntegerField(default=0)
    recalled_at = models.DateTimeField(null=True)
    questions = models.PositiveIntegerField(default=0)
    alerted = models.PositiveSmallIntegerField(default=0)
    spent_at = models.DateTimeField(null=True)
    forecast_at = models.DateTimeField(null=True)

    class Meta(TenantOwned.Meta):
        ordering = ["start"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "budget", "start"], name="one_budget_window_per_start"),
            # The promise of the ledger: a grant never passes the limit.
            models.CheckConstraint(
                condition=Q(granted__lte=F("limit") + F("excess")), name="budget_grants_within_limit"
            ),
        ]
        indexes = [models.Index(fields=["end"], name="budget_window_end")]  # what is old enough to go


class BudgetLease(TenantOwned):
    """What one gateway's data folder (``lessee``: name, slash, instance) was granted of a window.

    Berth itself is a lessee, too: ``@berth/`` and an endpoint's id for the GPUs of that endpoint, ``held`` being what
    they will cost until the window ends, or ``@berth/usage`` for requests that no gateway holds a budget for.
    ``silent`` since it did not answer a recall: its unspent part counts as spent until it reports again. The other
    columns are explained by ``billing.budgets.lending.Lease``.
    """

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="leases")
    lessee = models.CharField(max_length=64)
    granted = _amount()
    settled = _amount()
    held = _amount()
    sequence = models.BigIntegerField(default=0)
    reported_at = models.DateTimeField()
    heard = models.BigIntegerField(default=0)
    silent = models.BooleanField(default=False)
    needed = _amount()
    asked_at = models.DateTimeField(null=True)
    asked_sequence = models.BigIntegerField(default=0)
    awaits = models.BigIntegerField(default=0)
    round_at = models.DateTimeField(null=True)
    last_round = models.BooleanField(default=False)
    news = models.BooleanField(default=False)
    offered = _amount()
    sure = models.BigIntegerField(default=0)

    class Meta(TenantOwned.Meta):
        ordering = ["lessee"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "window", "lessee"], name="one_budget_lease_per_gateway"
            ),
            models.CheckConstraint(
                condition=Q(granted__gte=F("settled") + F("held")), name="budget_lease_covers_its_holds"
            ),
        ]
        indexes = [
            # What a gateway must be told, and what it gives back when it starts anew.
            models.Index(
                fields=["lessee"],
                condition=Q(granted__gt=F("settled")) | Q(news=True) | Q(asked_at__isnull=False),
                name="budget_lease_open",
            )
        ]


class BudgetAlert(TenantOwned):
    """Something of a window that was told once: a share of its limit was settled, all of it, or will be."""

    class Kind(models.TextChoices):
        THRESHOLD = "threshold"
        SPENT = "spent"
        FORECAST = "forecast"

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="alerts")
    kind = models.CharField(max_length=12, choices=Kind, default=Kind.THRESHOLD)
    percent = models.PositiveIntegerField(help_text="Of the limit: what was reached, or is expected.")
    reached_at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        ordering = ["reached_at", "percent"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "window", "kind", "percent"], name="budget_alert_once"),
        ]


class GpuClaim(TenantOwned):
    """GPUs that an endpoint is to hold until it gives them back; written by clusters as they are reserved.

    Budgets reserve what these cost. A change that runs beside what it replaces counts once, as with quotas: the claim
    is of the newest revision, and what goes on meanwhile is settled as it happens.
    """

    project = models.ForeignKey(Project, on_delete=models.PROTECT, related_name="+")
    endpoint_id = models.UUIDField()
    region = models.CharField(max_length=40)
    gpu_type = models.CharField(max_length=40)
    gpus = models.PositiveIntegerField(help_text="Devices, of all replicas together.")
    price_factor = models.DecimalField(max_digits=6, decimal_places=3, default=Decimal(1))

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant", "endpoint_id"], name="one_gpu_claim_per_endpoint")
        ]
