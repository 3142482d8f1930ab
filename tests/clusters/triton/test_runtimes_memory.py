"""What an engine's metrics tell of its GPU memory."""

from __future__ import annotations

from clusters.specs import ReplicaMemory
from clusters.triton.memory import memory_of

CPP = """\
# HELP nv_trt_llm_kv_cache_block_metrics KV cache blocks
# TYPE nv_trt_llm_kv_cache_block_metrics gauge
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="max",model="tensorrt_llm",version="1"} 1000
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="free",model="tensorrt_llm",version="1"} 750
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="used",model="tensorrt_llm",version="1"} 250
nv_trt_llm_kv_cache_block_metrics{kv_cache_block_type="tokens_per",model="tensorrt_llm",version="1"} 32
nv_gpu_memory_used_bytes{gpu_uuid="GPU-1"} 60000000000.000000
nv_gpu_memory_used_bytes{gpu_uuid="GPU-2"} 20000000000
nv_inference_request_summary_us{model="tensorrt_llm",version="1",quantile="0.5"} Nan
"""
SERVE = 'trtllm_kv_cache_utilization{model_name="llama",engine_type="undefined"} 0.25\n'


def test_blocks_become_bytes_with_the_size_of_a_token():
    memory = memory_of(CPP, "triton-llmapi", weights=50_000_000_000, kv_bytes_per_token=320_000)
    assert memory == ReplicaMemory(
        weights=50_000_000_000,
        kv_used=250 * 32 * 320_000,
        kv_max=1000 * 32 * 320_000,
        other=80_000_000_000 - 50_000_000_000 - 1000 * 32 * 320_000,
    )


def test_what_is_not_told_is_not_made_up():
    assert memory_of(CPP, "triton-llmapi") == ReplicaMemory()
    assert memory_of(SERVE, "trtllm-serve", weights=7, kv_bytes_per_token=8) == ReplicaMemory(weights=7)
    assert memory_of("", "triton-llmapi", kv_bytes_per_token=8) == ReplicaMemory()
    assert memory_of(CPP, "triton-python", weights=7, kv_bytes_per_token=8) == ReplicaMemory()


def test_lines_that_are_none_are_passed_over():
    text = CPP.replace("} 250", "} Nan") + "half a line{\nnv_gpu_memory_used_bytes{gpu_uuid=\n"
    memory = memory_of(text, "triton-llmapi", kv_bytes_per_token=1)
    assert (memory.kv_used, memory.kv_max) == (None, 32_000)
