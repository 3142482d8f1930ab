from django.apps import AppConfig


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = "Clusters and endpoints"

    def ready(self) -> None:
        from clusters import audited

        audited.register_tables()
        from clusters.endpoints.approvals.links import link_url
        from clusters.endpoints.approvals.telling import LINK
        from tenants.webhooks.links import register

        register(LINK, link_url)
