"""What the benches of rollouts and autoscaling share: a class with short times, GPU time held, a model that serves."""

from __future__ import annotations

import contextlib
import datetime as dt
from typing import Any

import httpx
import psycopg
from psycopg import sql

from embedded.datadir import DataDir
from embedded.postgres import Postgres
from tests.scenarios.stack import Stack, wait


def set_class(data_dir: DataDir, name: str, **values: Any) -> None:
    """Give an SLO class other times than are right for people, before anything is ordered."""
    sets = sql.SQL(", ").join(
        sql.SQL("{} = {}").format(sql.Identifier(column), sql.Literal(value))
        for column, value in values.items()
    )
    with psycopg.connect(Postgres(data_dir).superuser_url(), autocommit=True) as connection:
        connection.execute(
            sql.SQL("UPDATE clusters_sloclass SET {} WHERE name = {}").format(sets, sql.Literal(name))
        )


def gpu_hours(data_dir: DataDir, endpoint_id: str, since: dt.datetime, until: dt.datetime) -> float:
    """Give the GPU-hours that an endpoint held between two moments, by what is billed."""
    with psycopg.connect(Postgres(data_dir).superuser_url()) as connection:
        row = connection.execute(
            "SELECT coalesce(sum(gpus * extract(epoch FROM least(coalesce(ended_at, %(until)s), %(until)s)"
            " - greatest(started_at, %(since)s))), 0)::float8 / 3600 FROM billing_allocation"
            " WHERE endpoint_id = %(id)s AND started_at < %(until)s AND coalesce(ended_at, %(until)s) > %(since)s",
            {"id": endpoint_id, "since": since, "until": until},
        ).fetchone()
    assert row is not None
    return float(row[0])


def await_serving(stack: Stack, model: str, key: str, seconds: float = 120) -> None:
    """Wait until the gateway answers for a model."""

    def serves() -> bool:
        body = {"model": model, "prompt": "A", "max_tokens": 1}
        with contextlib.suppress(httpx.HTTPError):
            answer = httpx.post(
                f"{stack.gateway}/v1/completions",
                json=body,
                headers={"Authorization": f"Bearer {key}"},
                timeout=30,
            )
            return answer.status_code == 200
        return False

    wait(serves, seconds, lambda: f"the gateway does not serve {model}")
