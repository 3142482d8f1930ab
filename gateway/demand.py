"""What one request asks of an endpoint, known before any engine is asked."""

from __future__ import annotations

import msgspec

from gateway.contract import Endpoint, Key, SloClass, TokenPrices


class Demand(msgspec.Struct, frozen=True, kw_only=True):
    """One request to one endpoint.

    ``slo_class`` is the request's, which a key may have lowered. ``input_tokens`` are those of ``prompt``, or no
    fewer where they are not ``exact``; ``max_tokens`` the most that each of ``choices`` answers may have.
    ``needs`` are the features that its replica must have. ``session`` is what the client calls its conversation,
    empty if it does not.
    """

    key: Key
    endpoint: Endpoint
    slo_class: SloClass
    prompt: str
    input_tokens: int
    exact: bool
    max_tokens: int
    choices: int = 1
    needs: frozenset[str] = frozenset()
    session: str = ""

    @property
    def most_tokens(self) -> int:
        """Most tokens that the request may use, input and output together."""
        return self.input_tokens + self.max_tokens * self.choices

    @property
    def prices(self) -> TokenPrices | None:
        """The prices of its class, None where there are none."""
        endpoint, name = self.endpoint, self.slo_class.name
        return endpoint.prices if name == endpoint.slo_class else endpoint.lower_prices.get(name)
