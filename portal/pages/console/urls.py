"""Addresses of the console's screens; mounted at ``/console/``."""

from django.urls import path

from portal.pages.console import (
    catalog,
    clusters,
    dashboard,
    endpoints,
    estate_forms,
    gateways,
    prices,
    slo_classes,
    tenants,
)

app_name = "console"

urlpatterns = [
    path("", dashboard.Dashboard.as_view(), name="home"),
    path("clusters", clusters.Clusters.as_view(), name="clusters"),
    path("clusters/register", estate_forms.ClusterRegister.as_view(), name="cluster-register"),
    path("clusters/regions/register", estate_forms.RegionRegister.as_view(), name="region-register"),
    path("clusters/<slug:name>", clusters.ClusterDetail.as_view(), name="cluster"),
    path("clusters/<slug:name>/cordon", estate_forms.ClusterCordon.as_view(), name="cluster-cordon"),
    path("clusters/<slug:name>/uncordon", estate_forms.ClusterUncordon.as_view(), name="cluster-uncordon"),
    path("clusters/<slug:name>/pools/add", estate_forms.PoolAdd.as_view(), name="pool-add"),
    path("clusters/<slug:name>/pools/<slug:pool>", estate_forms.PoolChange.as_view(), name="pool-change"),
    path("gateways", gateways.Gateways.as_view(), name="gateways"),
    path("gateways/register", gateways.GatewayRegister.as_view(), name="gateway-register"),
    path("gateways/<slug:name>/token", gateways.GatewayToken.as_view(), name="gateway-token"),
    path("endpoints", endpoints.Endpoints.as_view(), name="endpoints"),
    path("endpoints/<uuid:id>", endpoints.EndpointDetail.as_view(), name="endpoint"),
    path("endpoints/<uuid:id>/logs/<str:replica>", endpoints.EndpointLog.as_view(), name="endpoint-log"),
    path("catalog", catalog.Catalog.as_view(), name="catalog"),
    path("catalog/add", catalog.ModelAdd.as_view(), name="model-add"),
    path("catalog/<str:name>", catalog.ModelDetail.as_view(), name="model"),
    path("catalog/<str:name>/edit", catalog.ModelEdit.as_view(), name="model-edit"),
    path("slo-classes", slo_classes.SloClasses.as_view(), name="slo-classes"),
    path("slo-classes/add", slo_classes.SloClassAdd.as_view(), name="slo-add"),
    path("slo-classes/<slug:name>", slo_classes.SloClassEdit.as_view(), name="slo-edit"),
    path("prices", prices.Prices.as_view(), name="prices"),
    path("prices/add", prices.PriceAdd.as_view(), name="price-add"),
    path("tenants", tenants.Tenants.as_view(), name="tenants"),
    path("tenants/open", tenants.TenantOpen.as_view(), name="tenant-open"),
    path("tenants/<slug:slug>", tenants.TenantDetail.as_view(), name="tenant"),
    path("tenants/<slug:slug>/quota", tenants.TenantQuota.as_view(), name="tenant-quota"),
]
