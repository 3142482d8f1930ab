"""What holds for any inputs: cumulative charges, sums, pieces of GPU time, canonical bytes."""

from __future__ import annotations

import datetime as dt
import uuid
from collections import defaultdict
from decimal import Decimal

import hypothesis.strategies as st
import msgspec
from hypothesis import given

from billing.statements.compose import compose
from billing.statements.gpu_time import Allocated, hours_of, pieces, union
from billing.statements.inputs import (
    Attained,
    Charged,
    Committed,
    CreditLeft,
    HeldTime,
    Inputs,
    Listed,
    Month,
    UsedTokens,
    canonical,
    opened,
    sealed,
)
from billing.statements.lines import Line, identity
from tests.billing.prices import utc

START, END = utc("2026-05-01"), utc("2026-06-01")
MAY = START.date()
HOUR = dt.timedelta(hours=1)
TENANT, PROJECT = uuid.UUID(int=1), uuid.UUID(int=2)
ENDPOINTS = [uuid.UUID(int=10 + number) for number in range(3)]
PRICES = tuple(
    Listed(id=f"p-{kind}", kind=kind, amount=Decimal(amount), currency="EUR", effective_from=utc("2025-01-01"))
    for kind, amount in (
        ("gpu_hour", "3.333"), ("input_tokens", "0.5"), ("output_tokens", "1.57"), ("cached_tokens", "0.1"),
    )
)  # fmt: skip

amounts = st.integers(min_value=0, max_value=5_000_000)
used = st.builds(
    lambda endpoint, prompt, cached, output, charged: UsedTokens(
        start=START, end=END, project_id=PROJECT, endpoint_id=ENDPOINTS[endpoint], model="guide",
        slo_class="standard", region="de-1", requests=1, input_tokens=prompt + cached, output_tokens=output,
        cached_tokens=cached, charged=charged or endpoint == 0,
    ),
    st.integers(0, 2), amounts, amounts, amounts, st.booleans(),
)  # fmt: skip
held = st.builds(
    lambda endpoint, first, length, gpus, idle: HeldTime(
        start=START + first * HOUR, end=START + (first + length) * HOUR, project_id=PROJECT,
        endpoint_id=ENDPOINTS[endpoint], gpu_type="h100", region="de-1", price_factor=Decimal(1),
        gpu_seconds=Decimal(gpus * length * 3600), gpus=gpus, idle=idle,
    ),
    st.integers(0, 2), st.integers(0, 500), st.integers(1, 200), st.integers(1, 4), st.booleans(),
)  # fmt: skip
committed = st.builds(
    lambda number, first, length, gpus, cents: Committed(
        id=uuid.UUID(int=100 + number), name=f"c{number}", gpu_type="h100", region="", gpus=gpus,
        rate=Decimal(cents) / 100, starts_at=START + first * HOUR, ends_at=START + (first + length) * HOUR,
    ),
    st.integers(0, 5), st.integers(0, 500), st.integers(1, 200), st.integers(1, 4), st.integers(0, 400),
)  # fmt: skip


def month(*, of: dt.date = MAY, **facts) -> Month:
    return Month(month=of, start=START, end=END, until=END, **facts)


def inputs(own: Month, **facts) -> Inputs:
    return Inputs(
        tenant_id=TENANT, tenant_name="Acme", tenant_slug="acme", time_zone="UTC", currency="EUR", month=own,
        prices=PRICES, **facts,
    )  # fmt: skip


def merged(rows: list[UsedTokens]) -> tuple[UsedTokens, ...]:
    """Sum usage as the rollups do: one row for each endpoint and basis."""
    sums: dict[tuple, UsedTokens] = {}
    for row in rows:
        before = sums.get(key := (row.endpoint_id, row.charged))
        counts = ("requests", "input_tokens", "output_tokens", "cached_tokens")
        sums[key] = row if before is None else msgspec.structs.replace(
            row, **{name: getattr(row, name) + getattr(before, name) for name in counts}
        )  # fmt: skip
    return tuple(sums[key] for key in sorted(sums))


def charged_by(lines: list[Line]) -> tuple[Charged, ...]:
    """Sum what statements hold, line by line, as it is read from their rows."""
    sums: dict[tuple, Charged] = {}
    for line in lines:
        found = Charged(**{name: getattr(line, name) for name in Charged.__struct_fields__})
        before = sums.get(identity(found))
        measures = ("quantity", "amount", "list_amount", "effective_amount")
        sums[identity(found)] = found if before is None else msgspec.structs.replace(
            found, **{name: getattr(found, name) + getattr(before, name) for name in measures}
        )  # fmt: skip
    return tuple(sums.values())


def by_identity(lines: list[Line]) -> dict[tuple, tuple[Decimal, Decimal]]:
    sums: defaultdict[tuple, list[Decimal]] = defaultdict(lambda: [Decimal(0), Decimal(0)])
    for line in lines:
        sums[identity(line)][0] += line.quantity
        sums[identity(line)][1] += line.amount
    return {key: (quantity, amount) for key, (quantity, amount) in sums.items() if quantity or amount}


@given(st.lists(used, min_size=1, max_size=12), st.data())
def test_however_usage_comes_all_statements_charge_what_the_whole_comes_to(rows, data):
    """The first close sees a part; each later one sees more, in any order, and corrects."""
    order = data.draw(st.permutations(rows))
    cuts = sorted(data.draw(st.lists(st.integers(0, len(rows)), max_size=3)))
    statements: list[Line] = list(compose(inputs(month(used=merged(order[: cuts[0] if cuts else 0])))).lines)
    for place in range(1, len(cuts) + 1):
        seen = order[: cuts[place]] if place < len(cuts) else order
        late = month(used=merged(seen), charged=charged_by(statements))
        following = inputs(month(of=dt.date(2026, 6, 1)), late=(late,))
        composed = compose(following)
        assert composed.total >= 0
        statements += [line for line in composed.lines if line.kind != "credit"]
    if not cuts:
        late = month(used=merged(order), charged=charged_by(statements))
        statements += [
            line for line in compose(inputs(month(of=dt.date(2026, 6, 1)), late=(late,))).lines
            if line.kind != "credit"
        ]  # fmt: skip
    whole = compose(inputs(month(used=merged(rows))))
    assert by_identity(statements) == by_identity(list(whole.lines))
    assert sum(line.amount for line in statements if line.charged) == whole.total


@given(
    st.lists(held, max_size=8),
    st.lists(used, max_size=8),
    st.lists(committed, max_size=3, unique_by=lambda each: each.id),
    st.lists(st.integers(1, 3000), max_size=3),
)
def test_lines_sum_to_the_total_and_bytes_come_back(held, used, commitments, credits):
    given_ = tuple(
        CreditLeft(
            id=uuid.UUID(int=number), reason="x", available_from=START, expires_at=None, left=Decimal(amount)
        )
        for number, amount in enumerate(credits, start=200)
    )
    attained = tuple(
        Attained(
            endpoint_id=endpoint, project_id=PROJECT, slo_class="standard", availability=Decimal("0.9"),
            ttft_p95_ms=None, itl_p95_ms=None, credit_percent=Decimal("33.33"), requests=10, failed=5,
            allowed=Decimal(1), hours=1, ttft_met=1, itl_met=1,
        )
        for endpoint in ENDPOINTS[:2]
    )  # fmt: skip
    own = month(held=tuple(held), used=merged(used), commitments=tuple(commitments), attained=attained)
    asked = inputs(own, credits=given_)
    composed = compose(asked)
    charged = [line for line in composed.lines if line.charged]
    assert composed.total == sum(line.amount for line in charged) == composed.charges + composed.credits
    assert composed.total >= 0
    assert all(line.amount >= 0 for line in charged if line.kind not in ("credit", "slo_credit"))
    assert sum(line.effective_amount for line in charged) == composed.total
    taken = -sum(line.amount for line in charged if line.kind == "credit")
    assert taken == min(sum(credits), composed.total + taken)
    compressed, _ = sealed(asked)
    assert canonical(opened(compressed)) == canonical(asked)
    assert compose(opened(compressed)) == composed


moments = st.integers(0, 72 * 60).map(lambda minutes: START + dt.timedelta(minutes=minutes))
spans = st.tuples(moments, moments).map(sorted).filter(lambda pair: pair[0] < pair[1])


@given(
    st.lists(st.tuples(spans, st.integers(1, 3)), min_size=1, max_size=5),
    st.lists(moments, max_size=4),
    st.lists(st.integers(0, (1 << 24) - 1), min_size=3, max_size=3),
    st.lists(spans, max_size=3),
    st.booleans(),
)
def test_pieces_of_gpu_time_are_the_whole_minute_by_minute(held, inner, bits, shared, apart):
    end = START + dt.timedelta(days=3)
    cuts = sorted({START, *(moment for moment in inner if START < moment < end), end})
    busy = hours_of((START + dt.timedelta(days=day), mask) for day, mask in enumerate(bits))
    sold = union(tuple(span) for span in shared)
    allocated = [
        Allocated(
            tenant_id=TENANT, project_id=PROJECT, endpoint_id=ENDPOINTS[0], gpu_type="h100", region="de-1",
            price_factor=Decimal(1), gpus=gpus, start=span[0], end=span[1],
        )
        for span, gpus in held
    ]  # fmt: skip
    expected: defaultdict[tuple, int] = defaultdict(int)
    for each in allocated:
        minute = each.start
        while minute < each.end:
            since = minute - START
            asked = bits[since.days] >> (since.seconds // 3600) & 1
            place = max(number for number, cut in enumerate(cuts) if cut <= minute)
            in_share = any(first <= minute < last for first, last in sold)
            expected[place, not asked, in_share] += each.gpus * 60
            minute += dt.timedelta(minutes=1)
    found: defaultdict[tuple, Decimal] = defaultdict(Decimal)
    for piece in pieces(allocated, cuts=cuts, busy=busy, shared=sold, apart=apart):
        place = max(number for number, cut in enumerate(cuts) if cut <= piece.start)
        assert piece.end <= cuts[place + 1]
        found[place, piece.idle, piece.shared] += piece.gpu_seconds
    assert found == expected
