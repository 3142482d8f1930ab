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

from tenants.models import TenantOwned

MOST = Decimal(10) ** 11


def default_alerts() -> list[int]:
    """Give the shares of a limit, in percent, that are told unless chosen otherwise."""
    return [50, 80, 100]


def _amount(**options: Any) -> models.DecimalField:
    # Tokens times a price per million with 10 places are whole multiples of 1e-16.
    return models.DecimalField(max_digits=32, decimal_places=16, default=0, **options)


class Budget(TenantOwned):
    """How much one owner may spend in each calendar window of the tenant's time zone.

    ``owner_id`` is the id of the key, the project or the tenant. What counts is settled by gateways: money at the
    price book, or input and output tokens together.
    """

    class OwnerKind(models.TextChoices):
        KEY = "key"
        PROJECT = "project"
        TENANT = "tenant"

    class Unit(models.TextChoices):
        MONEY = "money"
        TOKENS = "tokens"

    class Period(models.TextChoices):
        DAY = "day"
        WEEK = "week"
        MONTH = "month"

    name = models.CharField(max_length=80)
    owner_kind = models.CharField(max_length=8, choices=OwnerKind)
    owner_id = models.UUIDField()
    unit = models.CharField(max_length=8, choices=Unit)
    currency = models.CharField(max_length=3, blank=True, help_text="Of a budget in money; blank for tokens.")
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
                condition=(Q(unit="money") & ~Q(currency="")) | Q(unit="tokens", currency=""),
                name="budget_money_has_a_currency",
            ),
        ]

    def __str__(self) -> str:
        return self.name

    def clean(self) -> None:
        if self.unit == self.Unit.TOKENS and self.limit != self.limit.to_integral_value():
            raise ValidationError({"limit": "A limit in tokens is a whole number."})


class BudgetWindow(TenantOwned):
    """One window of a budget, [``start``, ``end``). The sums are over its leases.

    ``excess`` is what lies beyond the limit although nobody granted it: spent before the limit was lowered, or
    given by an engine beyond what was asked of it. ``recalls`` counts the rounds in which gateways were asked to give
    back, ``questions`` the gateways that wait for an answer. ``alerted`` is the highest share that was told.
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

    class Meta(TenantOwned.Meta):
        ordering = ["start"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "budget", "start"], name="one_budget_window_per_start"),
            # The promise of the ledger: a grant never passes the limit.
            models.CheckConstraint(
                condition=Q(granted__lte=F("limit") + F("excess")), name="budget_grants_within_limit"
            ),
        ]


class BudgetLease(TenantOwned):
    """What one gateway's data folder (``lessee``: name, slash, instance) was granted of a window.

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
    """A share of a window's limit, in percent, was settled: told once."""

    window = models.ForeignKey(BudgetWindow, on_delete=models.CASCADE, related_name="alerts")
    percent = models.PositiveSmallIntegerField()
    reached_at = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        ordering = ["percent"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "window", "percent"], name="budget_alert_once"),
        ]
