"""Databases for tests: one migrated template, cloned for every worker and for tests that commit."""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
from psycopg import sql

from embedded.datadir import DataDir, open_data_dir
from embedded.postgres import Postgres

ROOT = Path(__file__).resolve().parent.parent


def data_dir() -> DataDir:
    """Give the data folder of the test run; ``portal.settings.test`` has set it."""
    return open_data_dir(os.environ["BERTH_DATA_DIR"])


def template() -> str:
    """Give the name of a migrated database, making it when the migrations changed."""
    postgres = Postgres(data_dir())
    name = f"template_{_fingerprint()}"
    done = data_dir().file(f"{name}.done")
    with data_dir().locked("template"):
        if not done.exists():
            _need_not_outlive_a_crash(postgres)
            postgres.drop_database(name)
            postgres.create_database(name)
            environment = os.environ | {
                "DJANGO_SETTINGS_MODULE": "portal.settings.test",
                "DATABASE_URL": postgres.app_url(name),
                "DATABASE_OWNER_URL": postgres.owner_url(name),
            }
            subprocess.run(
                [sys.executable, "manage.py", "migrate", "-v0", "--skip-checks"],
                cwd=ROOT,
                env=environment,
                check=True,
                timeout=300,
            )
            done.touch()
    return name


def clone(name: str) -> str:
    """Make database ``name`` anew from the template and give its URL for the application role."""
    postgres = Postgres(data_dir())
    source = template()
    postgres.drop_database(name)
    with data_dir().locked("template"):  # a template may be copied by one session at a time
        postgres.create_database(name, template=source)
    return postgres.app_url(name)


def drop(name: str) -> None:
    """Remove a database."""
    Postgres(data_dir()).drop_database(name)


def owner_url(name: str) -> str:
    """Give the URL of ``name`` for the owner of its tables."""
    return Postgres(data_dir()).owner_url(name)


def superuser_url(name: str) -> str:
    """Give the URL of ``name`` for the server's superuser: what roles may do is tried as nobody else."""
    return Postgres(data_dir()).superuser_url(name)


def rename(url: str, name: str) -> str:
    """Give ``url`` for another database."""
    return urlunsplit(urlsplit(url)._replace(path=f"/{name}"))


def _need_not_outlive_a_crash(postgres: Postgres) -> None:
    """Let the server of the test run wait for no disk: databases come and go here by the hundred."""
    with psycopg.connect(postgres.superuser_url(), autocommit=True) as connection:
        for setting in ("fsync", "full_page_writes", "synchronous_commit"):
            connection.execute(sql.SQL("ALTER SYSTEM SET {} = off").format(sql.Identifier(setting)))
        connection.execute("SELECT pg_reload_conf()")


def _fingerprint() -> str:
    digest = hashlib.sha256()
    # Which triggers ``migrate`` makes, it reads from what the rooms register.
    made_by = [*ROOT.glob("*/migrations/*.py"), *ROOT.glob("*/audited.py"), *ROOT.glob("tenants/audit/*.py")]
    for path in [*sorted(made_by), ROOT / "tenants/isolation.py"]:
        digest.update(path.read_bytes())
    return digest.hexdigest()[:12]
