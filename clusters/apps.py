from django.apps import AppConfig


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = "Clusters and endpoints"

    def ready(self) -> None:
        from clusters import audited
        from clusters.kube.addresses import judge_by
        from tenants.outside import judge_cluster

        audited.register_tables()
        judge_by(judge_cluster)
        from clusters.endpoints.approvals.links import link_url
        from clusters.endpoints.approvals.telling import LINK
        from tenants.webhooks.links import register

        register(LINK, link_url)
