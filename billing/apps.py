from django.apps import AppConfig


class BillingConfig(AppConfig):
    name = "billing"
    verbose_name = "Metering and money"

    def ready(self) -> None:
        from billing import audited

        audited.register_tables()
