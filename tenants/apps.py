import importlib

from django.apps import AppConfig


class TenantsConfig(AppConfig):
    name = "tenants"
    verbose_name = "Tenants and people"

    def ready(self) -> None:
        from django.db.backends.signals import connection_created

        from tenants import audited
        from tenants.identity import told  # noqa: F401

        importlib.import_module("tenants.sealing.checks")
        importlib.import_module("tenants.identity.sealed")
        audited.register_tables()
        connection_created.connect(_carry_actor, dispatch_uid="berth-actor")


def _carry_actor(connection, **_: object) -> None:
    from tenants import acting

    if acting.carry not in connection.execute_wrappers:
        connection.execute_wrappers.append(acting.carry)
