"""What a tenant is charged for a month, and what stands against it."""

from __future__ import annotations

from django.db import models
from django.db.models import Q

from tenants.models import Project, TenantOwned


class BillingAccount(TenantOwned):
    """Whether a tenant can be billed. Parked: something does not add up, and no statement is closed until it does.

    ``accepted`` is the reason that an operator let pass when it was unparked: the same one parks it no more.
    """

    class State(models.TextChoices):
        ACTIVE = "active"
        PARKED = "parked"

    state = models.CharField(max_length=8, choices=State, default=State.ACTIVE)
    reason = models.CharField(max_length=500, blank=True)
    accepted = models.CharField(max_length=500, blank=True)
    parked_at = models.DateTimeField(null=True, blank=True)

    class Meta(TenantOwned.Meta):
        constraints = [
            models.UniqueConstraint(fields=["tenant"], name="one_billing_account_per_tenant"),
            models.CheckConstraint(
                condition=Q(state="active", parked_at=None) | (Q(state="parked") & ~Q(parked_at=None)),
                name="parked_since",
            ),
        ]


class StatementNumber(models.Model):
    """The last number given to a statement of a month of the calendar: numbers have no gaps."""

    month = models.DateField(primary_key=True)
    last = models.PositiveIntegerField(default=0)


class Statement(TenantOwned):
    """A tenant's chargeback for one calendar month in its own time zone.

    It follows usage as a draft while the month runs, in its ``grace`` until late usage is in, and is then final:
    numbered, never changed again. ``inputs`` are what it was computed from, compressed canonical JSON, and
    ``inputs_sha256`` is over that JSON; ``document_sha256`` is over the canonical document of its lines.
    """

    class State(models.TextChoices):
        DRAFT = "draft"
        GRACE = "grace"
        FINAL = "final"

    month = models.DateField(help_text="The first day of the month.")
    state = models.CharField(max_length=8, choices=State, default=State.DRAFT)
    number = models.CharField(max_length=24, blank=True)
    tenant_name = models.CharField(max_length=120, blank=True, help_text="As it was called then.")
    time_zone = models.CharField(max_length=64, blank=True, help_text="Whose calendar month it is.")
    currency = models.CharField(max_length=3)
    period_start = models.DateTimeField()
    period_end = models.DateTimeField()
    charges = models.DecimalField(max_digits=20, decimal_places=4, default=0)
    credits = models.DecimalField(
        max_digits=20,
        decimal_places=4,
        default=0,
        help_text="Negative; what is carried forward counts against.",
    )
    total = models.DecimalField(max_digits=20, decimal_places=4)
    computed_at = models.DateTimeField()
    finalized_at = models.DateTimeField(null=True, blank=True)
    inputs = models.BinaryField(null=True, editable=False)
    inputs_sha256 = models.CharField(max_length=64, blank=True)
    document_sha256 = models.CharField(max_length=64, blank=True)

    class Meta(TenantOwned.Meta):
        ordering = ["-month"]
        constraints = [
            models.UniqueConstraint(fields=["tenant", "month"], name="one_statement_per_month"),
            models.UniqueConstraint(fields=["number"], condition=~Q(number=""), name="statement_number_once"),
            models.CheckConstraint(
                condition=~Q(state="final")
                | (~Q(number="") & ~Q(finalized_at=None) & ~Q(inputs_sha256="") & ~Q(document_sha256="")),
                name="final_statement_is_sealed",
            ),
        ]


class StatementLine(TenantOwned):
    """One line: a quantity of one thing for one endpoint, and how its amount was reached.

    Only ``charged`` lines add up to the total; the other basis stands beside them. ``service_month`` is the month in
    which it was used, earlier than the statement's where ``correction``. ``list_amount`` is the quantity at list
    price, ``effective_amount`` what it cost with what a commitment covered spread over its use.
    """

    class Basis(models.TextChoices):
        ALLOCATION = "allocation"
        USAGE = "usage"

    class Kind(models.TextChoices):
        GPU_TIME = "gpu_time", "GPU time"
        IDLE_GPU_TIME = "idle_gpu_time", "Idle GPU time"  # in hours without a request
        TOKENS = "tokens", "Tokens"
        SHARED_GPU_TIME = "shared_gpu_time", "Share of a shared endpoint's GPU time"  # beside, by use
        COMMITMENT = "commitment", "Commitment"
        SLO_CREDIT = "slo_credit", "Credit for a missed target"
        CREDIT = "credit", "Credit"

    statement = models.ForeignKey(Statement, on_delete=models.CASCADE, related_name="lines")
    position = models.PositiveIntegerField()
    kind = models.CharField(max_length=16, choices=Kind)
    basis = models.CharField(max_length=16, choices=Basis)
    charged = models.BooleanField()
    correction = models.BooleanField(default=False)
    service_month = models.DateField()
    service_start = models.DateTimeField()
    service_end = models.DateTimeField()
    project = models.ForeignKey(
        Project, on_delete=models.PROTECT, null=True, related_name="+", help_text="None: of the whole tenant."
    )
    project_name = models.CharField(max_length=120, blank=True)
    cost_centre = models.CharField(max_length=64, blank=True)
    endpoint_id = models.UUIDField(null=True)
    endpoint_name = models.CharField(max_length=63, blank=True)
    model = models.CharField(max_length=80, blank=True)
    slo_class = models.CharField(max_length=40, blank=True)
    gpu_type = models.CharField(max_length=40, blank=True)
    region = models.CharField(max_length=40, blank=True)
    sku = models.CharField(max_length=160)
    description = models.CharField(max_length=200)
    quantity = models.DecimalField(max_digits=30, decimal_places=10)
    unit = models.CharField(max_length=40)
    unit_price = models.DecimalField(max_digits=20, decimal_places=10)
    list_unit_price = models.DecimalField(max_digits=20, decimal_places=10, default=0)
    amount = models.DecimalField(max_digits=20, decimal_places=4)
    list_amount = models.DecimalField(max_digits=20, decimal_places=4, default=0)
    effective_amount = models.DecimalField(max_digits=20, decimal_places=4, default=0)
    price_id = models.CharField(max_length=40, blank=True)
    commitment_id = models.UUIDField(null=True)
    credit_id = models.UUIDField(null=True)
    how = models.JSONField(default=list)

    class Meta(TenantOwned.Meta):
        ordering = ["position"]
        constraints = [
            models.UniqueConstraint(
                fields=["tenant", "statement", "position"], name="statement_line_position"
            ),
        ]
        indexes = [
            # What is left of credits and of what was carried forward.
            models.Index(fields=["tenant"], condition=Q(kind="credit"), name="statement_line_credit"),
        ]


class LateChange(TenantOwned):
    """Usage, GPU time, attainment or a commitment changed in a time that final statements cover already.

    Noted by the database itself, in the transaction of the change. The next statement that is closed takes it away and
    holds the differences.
    """

    since = models.DateTimeField()
    until = models.DateTimeField()

    class Meta(TenantOwned.Meta):
        ordering = ["since"]
        constraints = [models.UniqueConstraint(fields=["tenant", "since", "until"], name="late_change_once")]
