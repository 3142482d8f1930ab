"""Score: how well each replica suits the next request, in 0..1, 1 the best.

Three things count: how many tokens are outstanding there, how much of the prompt is in its cache, and whether it is
warm. A whole match outweighs load until the replica would have four times the tokens of the least loaded one, this
request's own counted; half a match until it would have 1.6 times.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from gateway.contract import Replica

#: What a prompt that is wholly in a replica's cache is worth beside an idle replica.
AFFINITY: Final = 0.75


def least_tokens(tokens: int, *, least: int, own: int) -> float:
    """Prefer few outstanding tokens: 1 for the replica that has the ``least``, half for twice as many.

    ``own`` are the tokens of the request itself, which each would have besides.
    """
    own = max(1, own)
    return (least + own) / (max(tokens, least) + own)


def scores(
    replicas: Sequence[Replica],
    *,
    tokens: Mapping[str, int],
    own: int,
    matched: Mapping[str, float],
    warmth: Mapping[str, float],
) -> list[float]:
    """Score ``replicas``, by the id of each: its outstanding ``tokens``, how much of the prompt it has ``matched``
    (0..1), and its ``warmth`` (above 0, up to 1; 1 where nothing is said).

    Warmth counts beside the warmest: replicas that are all cold are all alike.
    """
    ids = [replica.replica_id for replica in replicas]
    outstanding = [max(0, tokens.get(replica_id, 0)) for replica_id in ids]
    least = min(outstanding)
    found = [
        (least_tokens(count, least=least, own=own) + AFFINITY * matched.get(replica_id, 0.0)) / (1 + AFFINITY)
        for replica_id, count in zip(ids, outstanding, strict=True)
    ]
    if not warmth:
        return found
    warm = [warmth.get(replica_id, 1.0) for replica_id in ids]
    warmest = max(warm)
    return [score * factor / warmest for score, factor in zip(found, warm, strict=True)]
