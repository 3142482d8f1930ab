from django.apps import AppConfig


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = "Clusters and endpoints"

    def ready(self) -> None:
        from clusters.kube.addresses import judge_by
        from tenants.outside import judge_cluster

        judge_by(judge_cluster)
