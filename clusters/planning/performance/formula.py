"""The time of a step from its work and from what hardware and engine reach: one formula for fit and forecast.

Everything here takes plain numbers or arrays, so that a fit evaluates thousands of measured rows at once and a
search one configuration within microseconds. Times are seconds.
"""

from __future__ import annotations

import dataclasses
from typing import Any, TypeAlias

import numpy as np

#: A float or an array of them; all that meet in a call must broadcast.
Value: TypeAlias = Any


@dataclasses.dataclass(frozen=True, kw_only=True)
class Constants:
    """What is reached of the data sheet, and what is spent beside it.

    Shares of bandwidth: ``stream`` for weights, ``expert_stream`` for experts' weights, ``cache`` for the KV cache,
    ``ring`` and ``direct`` for long and short all-reduces. Shares of compute: ``compute``, ``expert_compute`` and
    ``attention``. Seconds: ``launch`` for a kernel of a decoding step, ``hop`` for an all-reduce's latency,
    ``request`` for the bookkeeping of one request in one step, ``eager`` for a kernel of a step that reads a
    prompt, which runs without a captured graph, ``first`` for a request's way in and out. ``imbalance`` is how much
    longer the fullest GPU takes for each doubling of the GPUs that experts are spread over, ``variety`` the power
    of a batch that its choice of experts grows with. Attention groups wait for each other's prompts: reading takes
    their number to the power of ``stall`` times as long. A first token waits
    ``wait`` steps, and ``burst`` is the share of requests that arrive at once in a closed loop. ``scale`` is what
    an engine differs by on one type of GPU.
    """

    stream: Value
    expert_stream: Value
    cache: Value
    compute: Value
    expert_compute: Value
    attention: Value
    launch: Value
    hop: Value
    ring: Value
    direct: Value
    request: Value
    eager: Value
    imbalance: Value
    variety: Value
    stall: Value
    first: Value
    wait: Value
    burst: Value
    scale: Value


def least(one: Value, other: Value) -> Value:
    """The smaller, element by element; numpy's minimum is slow on plain numbers."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.minimum(one, other)
    return min(one, other)


def most(one: Value, other: Value) -> Value:
    """The larger, element by element; numpy's maximum is slow on plain numbers."""
    if isinstance(one, np.ndarray) or isinstance(other, np.ndarray):
        return np.maximum(one, other)
    return max(one, other)


def slower(one: Value, other: Value) -> Value:
    """Time of two activities that overlap almost wholly: their 3-norm, a little above the longer one."""
    return (one**3 + other**3) ** (1 / 3)


def touched(work: Value, constants: Constants, tokens: Value) -> Value:
    """Share of the experts' weights that the fullest GPU streams for ``tokens``.

    Tokens that chose independently would touch 1 - (1 - k / n) ** tokens; as experts are not equally popular, what
    is new in further tokens grows as a power below 1 of their number (Heaps' law).
    """
    share = 1 - (1 - work.expert_share) ** most(1.0, tokens) ** constants.variety
    return least(1.0, share * (1 + constants.imbalance * work.doublings))


def decode_s(
    work: Value,
    constants: Constants,
    *,
    decoding: Value,
    context: Value,
    reading: Value = 0.0,
    prompt_tokens: Value = 0.0,
) -> Value:
    """Seconds of a step that decodes a token of each of ``decoding`` requests.

    In the share ``reading`` of steps ``prompt_tokens`` pass beside them, which touch more experts.
    """
    batch = decoding / work.stages
    experts = (1 - reading) * touched(work, constants, batch)
    experts = experts + reading * touched(work, constants, batch + prompt_tokens)
    stream = work.dense_s / constants.stream + work.expert_s * experts / constants.expert_stream
    multiply = batch * (
        work.dense_flops_s / constants.compute + work.expert_flops_s / constants.expert_compute
    )
    own = batch / work.groups
    seen = least(context, work.context_limit)
    read = work.cache_s * seen + work.window_s * least(context, work.window) + work.state_s
    attend = slower(own * read / constants.cache, own * seen * work.attention_s / constants.attention)
    exchange = work.hops * constants.hop
    exchange = exchange + own * work.direct_s / constants.direct + batch * work.exchange_s / constants.ring
    spent = work.launches * constants.launch + batch * constants.request
    return constants.scale * (slower(stream, multiply) + attend + exchange + spent)


def prompt_s(work: Value, constants: Constants, *, tokens: Value) -> Value:
    """Seconds that reading a prompt of ``tokens`` adds to the steps it is read in."""
    each = work.dense_flops_s / constants.compute + work.expert_flops_s / constants.expert_compute
    each = each + least(tokens / 2, work.context_limit) * work.prompt_attention_s / constants.attention
    each = each + (work.ring_s / work.groups + work.exchange_s) / constants.ring
    stalled = work.groups**constants.stall
    return constants.scale * stalled * (tokens / work.stages * each + work.launches * constants.eager)


def itl_s(
    work: Value, constants: Constants, *, concurrency: Value, input_tokens: Value, output_tokens: Value
) -> Value:
    """Mean seconds between tokens when every request that ends makes room for another.

    Each step then also reads ``concurrency / output_tokens`` prompts.
    """
    prompts = concurrency / output_tokens
    decode = decode_s(
        work,
        constants,
        decoding=concurrency,
        context=input_tokens + output_tokens / 2,
        reading=least(1.0, prompts),
        prompt_tokens=input_tokens,
    )
    return decode + prompts * prompt_s(work, constants, tokens=input_tokens)


def first_token_s(work: Value, constants: Constants, *, input_tokens: Value) -> Value:
    """Seconds to the first token of a request that finds the replica idle."""
    step = decode_s(work, constants, decoding=0.0, context=0.0, reading=1.0, prompt_tokens=input_tokens)
    return constants.first + step + work.stages * prompt_s(work, constants, tokens=input_tokens)


def closed_loop_s(
    work: Value, constants: Constants, *, running: Value, input_tokens: Value, output_tokens: Value
) -> tuple[Value, Value]:
    """Mean seconds to the first and between tokens where ``running`` clients ask again as soon as answered."""
    between = itl_s(
        work, constants, concurrency=running, input_tokens=input_tokens, output_tokens=output_tokens
    )
    prompt = prompt_s(work, constants, tokens=input_tokens)
    first = first_token_s(work, constants, input_tokens=input_tokens) + constants.wait * between
    return first + constants.burst * most(0.0, running - 1) / 2 * prompt, between


def waiting(
    first: Value, between: Value, *, concurrency: Value, running: Value, output_tokens: Value
) -> Value:
    """Mean wait for room in the cache when ``running`` of ``concurrency`` clients find some.

    By Little's law a request is in the system concurrency / running times as long as it is served.
    """
    return most(0.0, concurrency / running - 1) * (first + output_tokens * between)
