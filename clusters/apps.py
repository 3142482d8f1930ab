from django.apps import AppConfig


class ClustersConfig(AppConfig):
    name = "clusters"
    verbose_name = "Clusters and endpoints"

    def ready(self) -> None:
        from clusters import audited

        audited.register_tables()
