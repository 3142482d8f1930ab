"""What the Django admin shows: the estate to mend by hand, tenants' rows to read."""

from __future__ import annotations

from typing import Any

# Importing what libraries register registers it, whichever app comes first.
from allauth.account.admin import EmailAddress
from allauth.mfa.admin import Authenticator
from allauth.socialaccount.admin import SocialAccount, SocialApp, SocialToken
from allauth.usersessions.admin import UserSession
from django import forms
from django.contrib import admin
from django.contrib.auth.admin import Group
from django.db.models import QuerySet
from django.http import HttpRequest

from billing import models as billing
from clusters import models as clusters
from clusters.inventory import people
from tenants import models as tenants
from tenants.errors import BerthError
from tenants.identity.second_factor import second_factors_remove

#: Rows of libraries: they hold secrets, or services keep them together with others.
NOT_HERE = [Group, EmailAddress, Authenticator, SocialAccount, SocialApp, SocialToken, UserSession]
admin.site.unregister(NOT_HERE)


class ReadOnly(admin.ModelAdmin):
    """Rows that only services write."""

    list_per_page = 50
    show_full_result_count = False

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_change_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


class Kept(admin.ModelAdmin):
    """Rows that may be mended by hand, but neither made nor deleted here: the console and services do that."""

    list_per_page = 50

    def has_add_permission(self, request: HttpRequest) -> bool:
        return False

    def has_delete_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(tenants.Tenant)
class TenantAdmin(Kept):
    list_display = ["name", "slug", "state", "currency", "time_zone", "created_at"]
    list_filter = ["state"]
    search_fields = ["name", "slug"]
    readonly_fields = ["slug", "currency"]


class UserForm(forms.ModelForm):
    def clean(self) -> dict[str, Any]:
        person = self.instance
        if "is_active" in self.changed_data and not self.cleaned_data["is_active"] and person.is_superuser:
            try:
                people.keep_a_superuser(person)
            except BerthError as error:
                self.add_error("is_active", error.message)
        return self.cleaned_data


@admin.register(tenants.User)
class UserAdmin(Kept):
    """Suspending somebody is done here; roles are handed out in the console, which checks more."""

    form = UserForm
    list_display = ["email", "name", "platform_role", "is_active", "is_superuser", "last_login"]
    list_filter = ["platform_role", "is_active", "is_superuser"]
    search_fields = ["email", "name"]
    fields = ["email", "name", "platform_role", "is_active", "is_staff", "is_superuser", "last_login"]
    readonly_fields = ["email", "platform_role", "is_staff", "is_superuser", "last_login"]
    actions = ["take_second_factors_away"]

    @admin.action(description="Take their second factors away, and sign them out")
    def take_second_factors_away(self, request: HttpRequest, people: QuerySet) -> None:
        for person in people:
            second_factors_remove(user=person, by=request.user)
        told = ", ".join(person.email for person in people)
        self.message_user(request, f"{told}: to be set up anew at the next sign-in.")


@admin.register(tenants.Project)
class ProjectAdmin(ReadOnly):
    list_display = ["name", "slug", "cost_centre", "tenant"]
    list_select_related = ["tenant"]


@admin.register(tenants.Membership)
class MembershipAdmin(ReadOnly):
    list_display = ["user", "role", "tenant", "created_at"]
    list_filter = ["role"]
    list_select_related = ["user", "tenant"]


@admin.register(tenants.ApiKey)
class ApiKeyAdmin(ReadOnly):
    list_display = ["name", "hint", "scope", "role", "tenant", "expires_at", "revoked_at", "last_used_at"]
    list_filter = ["scope"]
    list_select_related = ["tenant"]


@admin.register(tenants.Quota)
class QuotaAdmin(ReadOnly):
    list_display = ["resource", "limit", "tenant"]
    list_select_related = ["tenant"]


@admin.register(clusters.Region)
class RegionAdmin(Kept):
    list_display = ["code", "name", "country", "zones", "certifications"]
    readonly_fields = ["code"]


@admin.register(clusters.Cluster)
class ClusterAdmin(ReadOnly):
    """How a cluster is reached is set in the console, which checks the address."""

    list_display = ["name", "region", "driver", "state", "declared", "last_seen_at"]
    list_select_related = ["region"]
    fields = [
        "name", "region", "driver", "state", "state_reason", "cordon_reason", "runtimes", "declared", "server",
        "namespaces", "version", "read_at", "last_seen_at", "removed_at",
    ]  # fmt: skip


@admin.register(clusters.OperatorCluster)
class OperatorClusterAdmin(ReadOnly):
    list_display = ["user", "cluster", "created_at"]
    list_select_related = ["user", "cluster"]


@admin.register(clusters.GpuType)
class GpuTypeAdmin(ReadOnly):
    list_display = ["name", "title", "memory_gib", "bandwidth_gbs"]


@admin.register(clusters.NodePool)
class NodePoolAdmin(ReadOnly):
    list_display = ["name", "cluster", "gpu_type", "nodes", "gpus_per_node", "reserve"]
    list_select_related = ["cluster", "gpu_type"]


@admin.register(clusters.Gateway)
class GatewayAdmin(ReadOnly):
    list_display = ["name", "region", "public_url", "last_seen_at", "confirmed_at"]
    list_select_related = ["region"]
    fields = [
        "name",
        "region",
        "cluster",
        "public_url",
        "state",
        "state_reason",
        "last_seen_at",
        "confirmed_at",
    ]


@admin.register(clusters.CatalogModel)
class CatalogModelAdmin(ReadOnly):
    list_display = ["name", "title", "licence", "context_tokens", "published"]
    list_filter = ["published"]


@admin.register(clusters.SloClass)
class SloClassAdmin(ReadOnly):
    list_display = ["name", "title", "priority", "ttft_p95_ms", "itl_p95_ms", "availability", "price_factor"]


@admin.register(clusters.Endpoint)
class EndpointAdmin(ReadOnly):
    list_display = ["name", "tenant", "project", "model", "slo_class", "residency", "state", "state_since"]
    list_filter = ["state", "slo_class"]
    list_select_related = ["tenant", "project", "model", "slo_class"]
    search_fields = ["name", "tenant__slug"]


@admin.register(clusters.Revision)
class RevisionAdmin(ReadOnly):
    list_display = [
        "endpoint",
        "number",
        "cluster",
        "pool",
        "gpu_type",
        "replicas",
        "applied_at",
        "cleaned_at",
    ]
    list_select_related = ["endpoint", "cluster", "pool__cluster"]


@admin.register(clusters.Replica)
class ReplicaAdmin(ReadOnly):
    list_display = ["replica_id", "endpoint", "phase", "url", "started_at", "ready_at", "gone_at"]
    list_filter = ["phase"]
    list_select_related = ["endpoint"]


@admin.register(clusters.Reservation)
class ReservationAdmin(ReadOnly):
    list_display = ["endpoint", "pool", "gpus", "nodes", "created_at", "released_at"]
    list_select_related = ["endpoint", "pool__cluster"]


@admin.register(clusters.Condition)
class ConditionAdmin(ReadOnly):
    list_display = ["endpoint", "type", "status", "reason", "changed_at"]
    list_filter = ["type", "status"]
    list_select_related = ["endpoint"]


@admin.register(clusters.EndpointEvent)
class EndpointEventAdmin(ReadOnly):
    list_display = ["created_at", "endpoint", "kind", "message", "actor"]
    list_select_related = ["endpoint"]


@admin.register(billing.Price)
class PriceAdmin(ReadOnly):
    list_display = [
        "kind",
        "tenant",
        "gpu_type",
        "region",
        "model",
        "slo_class",
        "amount",
        "currency",
        "effective_from",
        "book",
    ]
    list_filter = ["kind", "currency", "book"]
    list_select_related = ["tenant", "book"]


@admin.register(billing.Allocation)
class AllocationAdmin(ReadOnly):
    list_display = ["replica_id", "tenant", "cluster", "gpu_type", "gpus", "started_at", "ended_at"]
    list_filter = ["gpu_type"]
    list_select_related = ["tenant"]


@admin.register(billing.UsageDay, billing.UsageHour)
class UsageAdmin(ReadOnly):
    list_display = [
        "bucket",
        "tenant",
        "model",
        "slo_class",
        "outcome",
        "requests",
        "input_tokens",
        "output_tokens",
    ]
    list_filter = ["outcome"]
    list_select_related = ["tenant"]


class StatementLineInline(admin.TabularInline):
    model = billing.StatementLine
    fields = [
        "position",
        "sku",
        "endpoint_name",
        "basis",
        "charged",
        "quantity",
        "unit",
        "unit_price",
        "amount",
    ]
    readonly_fields = fields
    extra = 0
    can_delete = False

    def has_add_permission(self, request: HttpRequest, obj: object = None) -> bool:
        return False


@admin.register(billing.Statement)
class StatementAdmin(ReadOnly):
    list_display = ["tenant", "month", "state", "total", "currency", "computed_at"]
    list_filter = ["state"]
    list_select_related = ["tenant"]
    inlines = [StatementLineInline]
