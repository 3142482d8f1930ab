"""What a client saw, and what Berth accounts for."""

from __future__ import annotations

import dataclasses
from typing import Any

from tests.scenarios.stack import Session


@dataclasses.dataclass(frozen=True)
class Sum:
    """Completed requests and their tokens."""

    requests: int = 0
    input_tokens: int = 0
    output_tokens: int = 0

    def __add__(self, other: Sum) -> Sum:
        return Sum(
            self.requests + other.requests,
            self.input_tokens + other.input_tokens,
            self.output_tokens + other.output_tokens,
        )

    @classmethod
    def of_answer(cls, usage: Any) -> Sum:
        return cls(1, usage.prompt_tokens, usage.completion_tokens)


def accounted(session: Session, endpoint_id: str) -> Sum:
    """Sum up what the cost page's own source says of an endpoint."""
    (month,) = session.get("/costs", group_by="endpoint_id")["data"]
    lines = [line["cost"] for line in month["results"] if line["endpoint_id"] == endpoint_id]
    return sum(
        (Sum(line["requests"], line["input_tokens"], line["output_tokens"]) for line in lines), start=Sum()
    )
