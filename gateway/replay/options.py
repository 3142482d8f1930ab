"""The command's options, and the targets that they name."""

from __future__ import annotations

import argparse
import json
import os
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from gateway.replay.client import Target

_EPILOG = """
examples:
  python -m gateway.replay trace.csv --url http://127.0.0.1:8080/v1 --model docs --limit 500
  python -m gateway.replay trace.csv --url https://a.example/v1 --model large --name large \\
      --url https://a.example/v1 --model small --name small --prices 2/6/0.5 --prices 0.2/0.6/0.05 --speed 4
  python -m gateway.replay trace.csv --url https://a.example/v1 --model docs --speed 1 --speed 2 --speed 4 \\
      --gpus 8 --gpu-price 2.5 --ttft-ms 500 --itl-ms 40 --out before.json
  python -m gateway.replay --compare before.json after.json

The key is read from the environment variable BERTH_API_KEY, or from the one that --key-env names.
Exit status: 0 all requests came to their end, 1 some failed, 2 the command, the trace or a report is wrong,
3 with --strict: this machine could not keep up.
"""


def make_parser() -> argparse.ArgumentParser:
    """Make the parser of the command line."""
    parser = argparse.ArgumentParser(
        prog="python -m gateway.replay",
        description="Replay the lengths and times of a trace against OpenAI endpoints and measure the answers.",
        epilog=_EPILOG,
        formatter_class=argparse.RawDescriptionHelpFormatter,
    )
    add = parser.add_argument
    add("trace", type=Path, nargs="?",
        help="CSV with the columns TIMESTAMP, ContextTokens, GeneratedTokens, or Mooncake's JSON lines")  # fmt: skip
    add("--compare", nargs=2, type=Path, metavar=("A", "B"),
        help="send nothing; show two kept reports side by side")  # fmt: skip
    target = parser.add_argument_group("targets", "each once for all targets, or once for each")
    add_target = target.add_argument
    add_target("--url", action="append", default=[], type=_url,
        help="base URL up to /v1; again for each further target")  # fmt: skip
    add_target("--model", action="append", default=[], help="model to ask for")
    add_target("--name", action="append", default=[], help="what to call a target in the report")
    add_target("--key-env", action="append", default=[], metavar="VARIABLE",
        help="variable that holds a target's key")  # fmt: skip
    add_target("--prices", action="append", default=[], type=_prices, metavar="INPUT/OUTPUT[/CACHED]",
        help="prices per million tokens")  # fmt: skip
    add_target("--gpus", action="append", default=[], type=_positive, help="GPUs that serve a target")
    add_target("--gpu-price", action="append", default=[], type=_positive, metavar="PRICE",
        help="price of one GPU for an hour")  # fmt: skip
    add_target("--more", action="append", default=[], type=_more, metavar="JSON",
        help="further fields of each request, as '{\"ignore_eos\": true}'")  # fmt: skip
    traffic = parser.add_argument_group("traffic").add_argument
    traffic("--speed", action="append", default=[], type=_positive,
        help="how many times as fast as the trace (default 1); again for each further speed to try")  # fmt: skip
    traffic("--skip", type=_count, default=0, help="leave out that many requests at the beginning")
    traffic("--limit", type=_count, help="send at most that many requests")
    traffic("--most-input-tokens", type=_count, metavar="TOKENS", help="cut longer prompts to that length")
    traffic("--most-output-tokens", type=_count, metavar="TOKENS", help="ask for no longer answers")
    traffic("--timeout", type=_positive, default=600.0, help="seconds a request may take (default 600)")
    traffic("--warm-up", type=_count, default=0, metavar="REQUESTS",
        help="requests to each target before, one after another, that are not measured")  # fmt: skip
    traffic("--together", action="store_true",
        help="send to all targets at the same moments instead of one target after another")  # fmt: skip
    out = parser.add_argument_group("report").add_argument
    out("--ttft-ms", type=_positive, help="a good answer begins within that time, from when it was due")
    out("--itl-ms", type=_positive, help="a good answer takes that long between tokens at most, on average")
    out("--json", action="store_true", help="print the report as JSON")
    out(
        "--out",
        type=Path,
        metavar="FILE",
        help="keep the report, as JSON, to compare and to qualify pools with",
    )
    out("--strict", action="store_true", help="exit with 3 where this machine could not keep up")
    return parser


def targets_of(options: argparse.Namespace) -> list[Target]:
    """Read the targets; raises argparse.ArgumentTypeError where options do not fit them."""
    count = len(options.url)
    if not count or not options.model:
        raise argparse.ArgumentTypeError("name a target with --url and --model.")
    models = _for_each(options.model, count, "--model")
    names = _for_each(
        options.name or [f"target {place + 1}" for place in range(count)], count, "--name", own=True
    )
    if len(set(names)) < count:
        raise argparse.ArgumentTypeError("two targets have the same --name.")
    variables = _for_each(options.key_env or ["BERTH_API_KEY"], count, "--key-env")
    prices = _for_each(options.prices or [(None, None, None)], count, "--prices")
    gpus = _for_each(options.gpus or [None], count, "--gpus")
    gpu_prices = _for_each(options.gpu_price or [None], count, "--gpu-price")
    more = _for_each(options.more or [{}], count, "--more")
    if options.gpu_price and not options.gpus:
        raise argparse.ArgumentTypeError("--gpu-price needs --gpus: say how many GPUs serve the target.")
    for variable in options.key_env:
        if not os.environ.get(variable):
            raise argparse.ArgumentTypeError(f"the environment variable {variable} is not set.")
    return [
        Target(
            name=names[place], url=options.url[place], model=models[place],
            key=os.environ.get(variables[place], ""), input_price=prices[place][0],
            output_price=prices[place][1], cached_price=prices[place][2], gpus=gpus[place],
            gpu_price=gpu_prices[place], more=more[place],
        )
        for place in range(count)
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
    if parts.username is not None or parts.query or parts.fragment:
        raise argparse.ArgumentTypeError(
            "a URL ends with its path and holds no password, for it is kept in the report; give keys by --key-env"
        )
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
    if len(parts) not in (2, 3) or not all(0 <= part < float("inf") for part in parts):
        raise argparse.ArgumentTypeError(f"{text!r} is not INPUT/OUTPUT or INPUT/OUTPUT/CACHED")
    return parts[0], parts[1], parts[2] if len(parts) == 3 else None


def _more(text: str) -> dict[str, Any]:
    try:
        more = json.loads(text)
    except ValueError:
        more = None
    if not isinstance(more, dict):
        raise argparse.ArgumentTypeError(f"{text!r} is no JSON object")
    return more
