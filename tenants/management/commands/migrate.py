"""``migrate`` as the owner of the tables: the application's own role may not change them."""

from django.conf import settings
from django.core.management.commands.migrate import Command as MigrateCommand
from django.db import connections, transaction
from psycopg import sql

from tenants.audit import triggers

GRANTS = """
GRANT USAGE ON SCHEMA public TO {app};
GRANT SELECT, INSERT, UPDATE, DELETE ON ALL TABLES IN SCHEMA public TO {app};
GRANT USAGE, SELECT ON ALL SEQUENCES IN SCHEMA public TO {app};
GRANT EXECUTE ON ALL FUNCTIONS IN SCHEMA public TO {app};
REVOKE INSERT, UPDATE, DELETE ON django_migrations FROM {app};
"""


class Command(MigrateCommand):
    help = "Change the database as its owner (DATABASE_OWNER_URL) and grant the application its rights."

    def handle(self, *args, **options):
        connection = connections[options["database"]]
        application = connection.settings_dict["USER"]
        if settings.DATABASE_OWNER:
            connection.close()
            connection.close_pool()
            owner = {name: settings.DATABASE_OWNER[name] for name in ("USER", "PASSWORD", "HOST", "PORT")}
            connection.settings_dict = {**connection.settings_dict, **owner, "OPTIONS": {}}
        super().handle(*args, **options)
        with transaction.atomic(using=options["database"]):
            if settings.DATABASE_OWNER:
                with connection.cursor() as cursor:
                    cursor.execute(sql.SQL(GRANTS).format(app=sql.Identifier(application)))
            triggers.align(connection, application)
