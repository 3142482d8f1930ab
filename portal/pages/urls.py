"""Routes of the tenant portal, under /t/<slug>/."""

from __future__ import annotations

from django.urls import path

from portal.pages import (
    catalog,
    endpoint,
    endpoint_actions,
    endpoint_load,
    endpoint_what_if,
    endpoints,
    keys,
    logs,
    members,
    model_secret,
    order,
    playground,
    projects,
    revisions,
    statements,
    usage,
)

app_name = "tenant"

urlpatterns = [
    path("", endpoints.Endpoints.as_view(), name="endpoints"),
    path("endpoints/table", endpoints.EndpointsTable.as_view(), name="endpoints-table"),
    path("endpoints/<uuid:id>", endpoint.Overview.as_view(), name="endpoint"),
    path("endpoints/<uuid:id>/status", endpoint.Status.as_view(), name="endpoint-status"),
    path("endpoints/<uuid:id>/revisions", revisions.Revisions.as_view(), name="endpoint-revisions"),
    path(
        "endpoints/<uuid:id>/revisions/<int:number>",
        revisions.RevisionConfiguration.as_view(),
        name="endpoint-revision",
    ),
    path(
        "endpoints/<uuid:id>/revisions/<int:number>/restore",
        revisions.Restore.as_view(),
        name="endpoint-restore",
    ),
    path("endpoints/<uuid:id>/playground", playground.Playground.as_view(), name="endpoint-playground"),
    path(
        "endpoints/<uuid:id>/playground/key",
        playground.PlaygroundKey.as_view(),
        name="endpoint-playground-key",
    ),
    path("endpoints/<uuid:id>/logs", logs.Logs.as_view(), name="endpoint-logs"),
    path("endpoints/<uuid:id>/logs/tail", logs.LogTail.as_view(), name="endpoint-log"),
    path("endpoints/<uuid:id>/cost", usage.EndpointCost.as_view(), name="endpoint-cost"),
    path("endpoints/<uuid:id>/load", endpoint_load.Load.as_view(), name="endpoint-load"),
    path("endpoints/<uuid:id>/load/replan", endpoint_load.Replan.as_view(), name="endpoint-replan"),
    path("endpoints/<uuid:id>/load/keep", endpoint_load.KeepOrder.as_view(), name="endpoint-keep-order"),
    path("endpoints/<uuid:id>/what-if", endpoint_what_if.WhatIf.as_view(), name="endpoint-what-if"),
    path("endpoints/<uuid:id>/scale", endpoint_actions.Scale.as_view(), name="endpoint-scale"),
    path("endpoints/<uuid:id>/pause", endpoint_actions.Pause.as_view(), name="endpoint-pause"),
    path("endpoints/<uuid:id>/resume", endpoint_actions.Resume.as_view(), name="endpoint-resume"),
    path("endpoints/<uuid:id>/delete", endpoint_actions.Delete.as_view(), name="endpoint-delete"),
    path("catalog", catalog.Catalog.as_view(), name="catalog"),
    path("catalog/<str:name>", catalog.Model.as_view(), name="model"),
    path("catalog/<str:name>/secret", model_secret.ModelSecretSet.as_view(), name="model-secret"),
    path(
        "catalog/<str:name>/secret/remove",
        model_secret.ModelSecretRemove.as_view(),
        name="model-secret-remove",
    ),
    path("order", order.Order.as_view(), name="order"),
    path("order/quote", order.Quote.as_view(), name="order-quote"),
    path("keys", keys.Keys.as_view(), name="keys"),
    path("keys/new", keys.NewKey.as_view(), name="key-new"),
    path("keys/<uuid:id>/revoke", keys.RevokeKey.as_view(), name="key-revoke"),
    path("usage", usage.Usage.as_view(), name="usage"),
    path("usage.csv", usage.UsageCsv.as_view(), name="usage-csv"),
    path("statements", statements.Statements.as_view(), name="statements"),
    path("statements/<str:month>", statements.Statements.as_view(), name="statement"),
    path("statements/<str:month>/lines.csv", statements.StatementCsv.as_view(), name="statement-csv"),
    path("projects", projects.Projects.as_view(), name="projects"),
    path("projects/new", projects.NewProject.as_view(), name="project-new"),
    path("projects/<uuid:id>", projects.EditProject.as_view(), name="project"),
    path("members", members.Members.as_view(), name="members"),
    path("members/new", members.NewMember.as_view(), name="member-new"),
    path("members/<uuid:id>/role", members.MemberRole.as_view(), name="member-role"),
    path("members/<uuid:id>/remove", members.RemoveMember.as_view(), name="member-remove"),
]
