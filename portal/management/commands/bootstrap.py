"""Fill an empty installation with what every one needs: GPU types, classes, engine images, the catalog, prices."""

from __future__ import annotations

import datetime as dt
from decimal import Decimal

from django.conf import settings
from django.core.management.base import BaseCommand
from django.db import transaction

from billing.models import Price
from billing.prices import price_set
from clusters.inventory.images import images_bootstrap
from clusters.inventory.services import gpu_types_sync
from clusters.inventory.tokenizers import tokenizer_set
from clusters.inventory.tuning import tuning_bootstrap
from clusters.models import CatalogModel, SloClass
from clusters.triton.language_model import CATALOG
from clusters.triton.language_model.artifact import tokenizer_file

BEGINNING = dt.datetime(2024, 1, 1, tzinfo=dt.UTC)

CLASSES = [
    {
        "name": "interactive",
        "title": "Interactive",
        "description": "People wait for the answer: chat, assistants, completion while typing.",
        "ttft_p95_ms": 500,
        "itl_p95_ms": 40,
        "availability": Decimal("0.999"),
        "priority": 1,
        "price_factor": Decimal("1.25"),
        "spare_replicas": 1,
        "first_token_timeout_s": 20,
        "attempts": 3,
        "queue_s": 1,
        "on_overload": "fallback",
        "rollout_from_hour": 2,
        "rollout_until_hour": 5,
    },
    {
        "name": "standard",
        "title": "Standard",
        "description": "Applications that answer within seconds: agents, extraction, summaries.",
        "ttft_p95_ms": 2000,
        "itl_p95_ms": 80,
        "availability": Decimal("0.995"),
        "priority": 2,
        "price_factor": Decimal("1"),
        "first_token_timeout_s": 60,
        "attempts": 2,
        "queue_s": 5,
        "floor": 0.1,
        "on_overload": "fallback",
        "may_scale_to_zero": True,
        "idle_to_zero_s": 1800,
        "rollout_from_hour": 2,
        "rollout_until_hour": 5,
    },
    {
        "name": "batch",
        "title": "Batch",
        "description": "Nobody waits: evaluations, indexing, nightly jobs. No latency target.",
        "ttft_p95_ms": None,
        "itl_p95_ms": None,
        "availability": Decimal("0.99"),
        "priority": 3,
        "price_factor": Decimal("0.6"),
        "first_token_timeout_s": 300,
        "total_timeout_s": 3600,
        "attempts": 2,
        "backoff_s": 0.5,
        "backoff_most_s": 10,
        "queue_s": 60,
        "floor": 0.05,
        "may_scale_to_zero": True,
        "high_water": 0.95,
        "low_water": 0.6,
        "rollout_steps": [25],
        "rollout_little_traffic": "promote",
        "rollout_ttft_factor": None,
        "rollout_itl_factor": None,
    },
]

CHATML = (
    "{% for m in messages %}<|im_start|>{{ m['role'] }}\n{{ m['content'] }}<|im_end|>\n{% endfor %}"
    "{% if add_generation_prompt %}<|im_start|>assistant\n{% endif %}"
)
LLAMA3 = (
    "<|begin_of_text|>{% for m in messages %}<|start_header_id|>{{ m['role'] }}<|end_header_id|>\n\n"
    "{{ m['content'] | trim }}<|eot_id|>{% endfor %}"
    "{% if add_generation_prompt %}<|start_header_id|>assistant<|end_header_id|>\n\n{% endif %}"
)

# The checkpoints are published in bf16. Where an organisation keeps its own copy, and where that stands, is for
# its operators to say: until then no residency but global can be shown for them.
SERVED_BY_TENSORRT_LLM = {
    "runtimes": ["triton-llmapi", "trtllm-serve"],
    "precisions": ["bf16", "fp8"],
    "weights_kind": CatalogModel.WeightsKind.HUGGING_FACE,
    "weights_revision": "main",
    "weights_quantize": {"fp8": "fp8"},
    "precision_notes": {
        "fp8": {
            "note": "Made from the bf16 checkpoint by post-training quantization. Berth has not measured its answers; "
            "compare them on your own evaluation before you rely on them.",
            "needs_approval": False,
        },
    },
}

# Architecture numbers from the models' published configurations.
MODELS = [
    {
        "name": "llama-3.1-8b-instruct",
        "title": "Llama 3.1 8B Instruct",
        "description": "A dense model for chat and tool use with a long context.",
        "licence": "Llama 3.1 Community License",
        "weights_uri": "https://huggingface.co/meta-llama/Llama-3.1-8B-Instruct",
        "weights_size_gib": 15,
        "context_tokens": 131_072,
        "chat_template": LLAMA3,
        "architecture": {
            "parameters": 8_030_261_248, "active_parameters": 8_030_261_248, "layers": 32, "hidden": 4096,
            "heads": 32, "kv_heads": 8, "head_size": 128, "vocabulary": 128_256,
        },
    },
    {
        "name": "llama-3.3-70b-instruct",
        "title": "Llama 3.3 70B Instruct",
        "description": "A large dense model for demanding chat, reasoning and extraction.",
        "licence": "Llama 3.3 Community License",
        "weights_uri": "https://huggingface.co/meta-llama/Llama-3.3-70B-Instruct",
        "weights_size_gib": 132,
        "context_tokens": 131_072,
        "chat_template": LLAMA3,
        "architecture": {
            "parameters": 70_553_706_496, "active_parameters": 70_553_706_496, "layers": 80, "hidden": 8192,
            "heads": 64, "kv_heads": 8, "head_size": 128, "vocabulary": 128_256,
        },
    },
    {
        "name": "qwen3-30b-a3b",
        "title": "Qwen3 30B A3B",
        "description": "A mixture of experts: 30 billion parameters, 3 billion of them at work per token.",
        "licence": "Apache-2.0",
        "weights_uri": "https://huggingface.co/Qwen/Qwen3-30B-A3B",
        "weights_size_gib": 57,
        "context_tokens": 40_960,
        "chat_template": CHATML,
        "architecture": {
            "parameters": 30_532_122_624, "active_parameters": 3_345_000_000, "layers": 48, "hidden": 2048,
            "heads": 32, "kv_heads": 4, "head_size": 128, "vocabulary": 151_936,
        },
    },
]  # fmt: skip

GPU_HOURS = {
    "h200_sxm": "3.80", "h100_sxm": "2.99", "a100_sxm": "1.75", "l40s": "0.90", "l4": "0.45", "b200_sxm": "5.50",
}  # fmt: skip
# Per million tokens in class standard: input, output, cached input.
TOKENS = {
    CATALOG.name: ("0.10", "0.40", "0.025"),
    "llama-3.1-8b-instruct": ("0.06", "0.12", "0.015"),
    "llama-3.3-70b-instruct": ("0.50", "0.80", "0.125"),
    "qwen3-30b-a3b": ("0.12", "0.40", "0.03"),
}


class Command(BaseCommand):
    help = __doc__

    @transaction.atomic
    def handle(self, *args, **options) -> None:
        gpu_types_sync()
        for values in CLASSES:
            SloClass.objects.get_or_create(name=values["name"], defaults=values)
        tuning_bootstrap()
        images_bootstrap()
        for values in [_guide_model(), *(SERVED_BY_TENSORRT_LLM | model for model in MODELS)]:
            CatalogModel.objects.get_or_create(name=values["name"], defaults=values)
        # The guide that the model learned may have changed since, and with it the tokenizer.
        tokenizer_set(model=CatalogModel.objects.get(name=CATALOG.name), content=tokenizer_file())
        if not Price.objects.exists():
            _write_prices(settings.CURRENCY)
        if options["verbosity"]:
            self.stdout.write(
                f"{SloClass.objects.count()} SLO classes, {CatalogModel.objects.count()} models, "
                f"{Price.objects.count()} prices."
            )


def _guide_model() -> dict:
    return {
        "name": CATALOG.name,
        "title": CATALOG.title,
        "description": CATALOG.description,
        "licence": CATALOG.licence,
        "context_tokens": CATALOG.context_tokens,
        "chat_template": CATALOG.chat_template,
        "runtimes": list(CATALOG.runtimes),
        "precisions": ["bf16"],
        # It has no layers; the smallest numbers that the planner takes stand for it.
        "architecture": {
            "parameters": CATALOG.parameters, "active_parameters": CATALOG.parameters, "layers": 1, "hidden": 64,
            "heads": 1, "kv_heads": 1, "head_size": 64, "vocabulary": CATALOG.vocabulary,
        },
    }  # fmt: skip


def _write_prices(currency: str) -> None:
    for gpu_type, amount in GPU_HOURS.items():
        price_set(
            kind=Price.Kind.GPU_HOUR, gpu_type=gpu_type, amount=Decimal(amount), currency=currency,
            effective_from=BEGINNING, note="Opening price", bootstrap=True,
        )  # fmt: skip
    kinds = (Price.Kind.INPUT_TOKENS, Price.Kind.OUTPUT_TOKENS, Price.Kind.CACHED_TOKENS)
    for model, amounts in TOKENS.items():
        for slo_class in CLASSES:
            for kind, amount in zip(kinds, amounts, strict=True):
                price_set(
                    kind=kind, model=model, slo_class=slo_class["name"],
                    amount=Decimal(amount) * slo_class["price_factor"], currency=currency,
                    effective_from=BEGINNING, note="Opening price", bootstrap=True,
                )  # fmt: skip
