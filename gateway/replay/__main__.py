"""The command: read a trace, send it, say how it went."""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp

from gateway.replay.client import Client, Measured, Target, TargetRefused
from gateway.replay.report import summarize, table
from gateway.replay.trace import TracedRequest, TraceError, cut, read_trace

_EPILOG = """
examples:
  python -m gateway.replay trace.csv --url http://127.0.0.1:8080/v1 --model docs --limit 500
  python -m gateway.replay trace.csv --url https://a.example/v1 --model large --name large \\
      --url https://a.example/v1 --model small --name small --prices 2/6/0.5 --prices 0.2/0.6/0.05 --speed 4

The key is read from the environment variable BERTH_API_KEY, or from the one that --key-env names.
Exit status: 0 all requests came to their end, 1 some failed, 2 the command or the trace is wrong.
"""


def main(arguments: Sequence[str] | None = None) -> int:
    """Run; gives the exit status."""
    parser = _parser()
    options = parser.parse_args(arguments)
    try:
        targets = _targets(options)
        trace = cut(read_trace(options.trace), skip=options.skip, limit=options.limit, speed=options.speed)
        if not trace:
            raise TraceError(f"{options.trace} has no request after the first {options.skip}.")
        if options.most_output_tokens is not None:
            most = options.most_output_tokens
            trace = [request._replace(output_tokens=min(request.output_tokens, most)) for request in trace]
        if options.most_input_tokens is not None:
            most = options.most_input_tokens
            trace = [request._replace(input_tokens=min(request.input_tokens, most)) for request in trace]
        summaries = asyncio.run(_replay(trace, targets, timeout_s=options.timeout))
    except (TraceError, TargetRefused, argparse.ArgumentTypeError) as error:
        print(f"gateway.replay: {error}", file=sys.stderr)
        return 2
    print(json.dumps(summaries, indent=2) if options.json else table(summaries))
    return 1 if any(summary["failed"] for summary in summaries) else 0


async def _replay(
    trace: Sequence[TracedRequest], targets: Sequence[Target], *, timeout_s: float
) -> list[dict[str, Any]]:
    """Send the whole trace to one target after the other; each gets the same prompts."""
    summaries = []
    connector = aiohttp.TCPConnector(limit=0)
    async with aiohttp.ClientSession(connector=connector, cookie_jar=aiohttp.DummyCookieJar()) as session:
        for target in targets:
            client = Client(target, session, timeout_s=timeout_s)
            scale = await client.scale()
            begin = time.perf_counter()
            tasks = []
            for number, request in enumerate(trace):
                due = begin + request.at_s
                await asyncio.sleep(max(0.0, due - time.perf_counter()))
                sending = client.send(request, due=due, scale=scale, seed=str(number))
                tasks.append(asyncio.create_task(sending))
            measured: list[Measured] = await asyncio.gather(*tasks)
            summaries.append(summarize(target, measured, seconds=time.perf_counter() - begin))
    return summaries


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="python -m gateway.replay",
        description="Replay the lengths and times of a trace against OpenAI endpoints and measure the answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("trace", type=Path, help="CSV file with the columns TIMESTAMP, ContextTokens, GeneratedTokens")
    add(
        "--url",
        action="append",
        required=True,
        type=_url,
        help="base URL up to /v1; again for each further target",
    )
    add(
        "--model",
        action="append",
        required=True,
        help="model to ask for; one for all targets, or one for each",
    )
    add("--name", action="append", default=[], help="what to call a target in the report")
    add(
        "--key-env",
        action="append",
        default=[],
        metavar="VARIABLE",
        help="variable that holds a target's key",
    )
    add("--prices", action="append", default=[], type=_prices, metavar="INPUT/OUTPUT[/CACHED]",
        help="prices per million tokens; one for all targets, or one for each")  # fmt: skip
    add("--speed", type=_positive, default=1.0, help="how many times as fast as the trace (default 1)")
    add("--skip", type=_count, default=0, help="leave out that many requests at the beginning")
    add("--limit", type=_count, help="send at most that many requests")
    add("--most-input-tokens", type=_count, metavar="TOKENS", help="cut longer prompts to that length")
    add("--most-output-tokens", type=_count, metavar="TOKENS", help="ask for no longer answers")
    add("--timeout", type=_positive, default=600.0, help="seconds a request may take (default 600)")
    add("--json", action="store_true", help="print the report as JSON")
    return parser


def _targets(options: argparse.Namespace) -> list[Target]:
    count = len(options.url)
    models = _for_each(options.model, count, "--model")
    names = _for_each(
        options.name or [f"target {place + 1}" for place in range(count)], count, "--name", own=True
    )
    variables = _for_each(options.key_env or ["BERTH_API_KEY"], count, "--key-env")
    prices = _for_each(options.prices or [(None, None, None)], count, "--prices")
    for variable in options.key_env:
        if not os.environ.get(variable):
            raise argparse.ArgumentTypeError(f"the environment variable {variable} is not set.")
    return [
        Target(
            name=name, url=url, model=model, key=os.environ.get(variable, ""),
            input_price=price[0], output_price=price[1], cached_price=price[2],
        )
        for name, url, model, variable, price in zip(names, options.url, models, variables, prices, strict=True)
    ]  # fmt: skip


def _for_each(values: list[Any], count: int, option: str, *, own: bool = False) -> list[Any]:
    if len(values) == count:
        return values
    if len(values) == 1 and not own:
        return values * count
    raise argparse.ArgumentTypeError(f"{option} was given {len(values)} times for {count} targets.")


def _url(text: str) -> str:
    parts = urlsplit(text)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise argparse.ArgumentTypeError(f"{text!r} is no http:// or https:// URL")
    return text.rstrip("/")


def _positive(text: str) -> float:
    value = float(text)
    if not 0 < value < float("inf"):
        raise argparse.ArgumentTypeError(f"{text} is not above 0")
    return value


def _count(text: str) -> int:
    value = int(text)
    if value < 0:
        raise argparse.ArgumentTypeError(f"{text} is below 0")
    return value


def _prices(text: str) -> tuple[float, float, float | None]:
    parts = [float(part) for part in text.split("/")]
    if len(parts) not in (2, 3) or min(parts) < 0:
        raise argparse.ArgumentTypeError(f"{text!r} is not INPUT/OUTPUT or INPUT/OUTPUT/CACHED")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


if __name__ == "__main__":
    sys.exit(main())
