"""How engines are started in containers: whole for each runtime, and what is refused."""

from __future__ import annotations

import dataclasses

import pytest
import yaml
from google.protobuf import text_format
from tritonclient.grpc.model_config_pb2 import ModelConfig

from clusters.planning.problem import Precision
from clusters.specs import EngineImage, Tuning, Weights, WeightsKind
from clusters.triton.errors import InvalidDeployment
from clusters.triton.front import INPUTS, OUTPUTS
from clusters.triton.runtimes import RUNTIMES, engine_of, weights
from clusters.triton.runtimes.llmapi.options import unknown_keys
from clusters.triton.tuning import defaults_for
from tests.clusters.triton.specs import CLAIM, CLASSES, HUB, IMAGE, SHAPES, spec_of

SPLIT = [
    (runtime, shape)
    for runtime in RUNTIMES
    for shape in SHAPES
    if not (shape == "tp8-pp2" and runtime in ("triton-engine", "triton-python"))
    and not (shape == "tp4" and runtime == "triton-python")
]
MODEL_YAML = "repository/tensorrt_llm/1/model.yaml"
TENSORRT_LLM = [runtime for runtime in RUNTIMES if runtime != "triton-python"]


def options_in(container):
    """The options of the LLM API that a container is given in a file."""
    text = container.files.get(MODEL_YAML) or container.files["config.yaml"]
    return yaml.safe_load(text)


@pytest.mark.parametrize(("runtime", "shape"), SPLIT)
@pytest.mark.parametrize("slo_class", CLASSES)
def test_every_configuration_is_read_by_tritons_own_message(runtime, shape, slo_class):
    container = engine_of(spec_of(runtime, shape, slo_class))
    found = [text for path, text in container.files.items() if path.endswith("config.pbtxt")]
    assert len(found) == (0 if runtime == "trtllm-serve" else 1)
    for text in found:
        config = text_format.Parse(text, ModelConfig())
        assert config.name == container.engine_model
        assert config.backend == "python"
        assert config.max_batch_size == 0
        assert config.model_transaction_policy.decoupled
        assert not config.HasField("dynamic_batching")  # queue policies stall
        assert {tensor.name for tensor in config.input} >= {name for name, *_ in INPUTS}
        assert [tensor.name for tensor in config.output] == [name for name, *_ in OUTPUTS]


@pytest.mark.parametrize(("runtime", "shape"), [pair for pair in SPLIT if pair[0] != "triton-python"])
@pytest.mark.parametrize("slo_class", CLASSES)
def test_every_option_is_the_pinned_versions(runtime, shape, slo_class):
    options = options_in(engine_of(spec_of(runtime, shape, slo_class)))
    assert options
    assert not list(unknown_keys(options))


def test_the_options_of_experts_are_the_pinned_versions():
    options = options_in(
        engine_of(spec_of("triton-llmapi", "tp4", expert_parallel=2, attention_dp=True, tuning=Tuning()))
    )
    assert options["moe_expert_parallel_size"] == 2
    assert not list(unknown_keys(options))


@pytest.mark.parametrize("quantize", ["", *weights.QUANTIZATIONS])
@pytest.mark.parametrize("precision", Precision)
@pytest.mark.parametrize("runtime", TENSORRT_LLM)
def test_every_precision_that_is_planned_is_served(runtime, precision, quantize):
    made = dataclasses.replace(CLAIM, quantize=quantize)
    container = engine_of(spec_of(runtime, precision=precision.value, weights=made))
    options = options_in(container)
    assert not list(unknown_keys(options))
    if runtime != "triton-engine":  # compiled engines hold their types
        plain = precision is Precision.BF16 and not quantize
        assert options["dtype"] == ("bfloat16" if plain else "auto")
    if quantize:
        (job,) = (job for job in container.jobs if job.kind == "quantize")
        assert job.command[job.command.index("--qformat") + 1] == quantize


def test_an_unknown_option_is_seen_at_any_depth():
    assert list(unknown_keys({"max_batch_size": 1, "max_tokens": 1, "kv_cache_config": {"dtyp": "fp8"}})) == [
        "max_tokens",
        "kv_cache_config.dtyp",
    ]


def test_the_plan_and_the_class_reach_the_engine():
    tuning = Tuning(
        max_batch_size=32, max_num_tokens=4096, scheduler_policy="MAX_UTILIZATION", kv_cache_fraction=0.8,
        kv_cache_dtype="fp8", kv_block_reuse=False, chunked_prefill=False, attention_backend="FLASHINFER",
        cuda_graphs=False, overlap_scheduler=False, stream_interval=4, drain_s=77,
    )  # fmt: skip
    spec = spec_of("triton-llmapi", "tp4", tuning=tuning, expert_parallel=2, attention_dp=True)
    container = engine_of(spec)
    assert yaml.safe_load(container.files[MODEL_YAML]) == {
        "model": "/weights/llama-70b",
        "backend": "pytorch",
        "dtype": "bfloat16",
        "tensor_parallel_size": 4,
        "pipeline_parallel_size": 1,
        "gpus_per_node": 4,
        "enable_attention_dp": True,
        "max_batch_size": 32,
        # Without chunks the longest prompt must fit one iteration.
        "max_num_tokens": 16384,
        "max_seq_len": 16384,
        "max_input_len": 16383,
        "kv_cache_config": {"free_gpu_memory_fraction": 0.8, "dtype": "fp8", "enable_block_reuse": False},
        "scheduler_config": {"capacity_scheduler_policy": "MAX_UTILIZATION"},
        "enable_chunked_prefill": False,
        "attn_backend": "FLASHINFER",
        "cuda_graph_config": None,
        "disable_overlap_scheduler": True,
        "stream_interval": 4,
        "enable_iter_perf_stats": True,
        "moe_expert_parallel_size": 2,
        "moe_tensor_parallel_size": 2,
        "triton_config": {"max_batch_size": 0, "decoupled": True},
    }
    assert "--exit-timeout-secs=77" in container.command
    assert "--allow-grpc=false" in container.command
    assert container.readiness_path == "/v2/models/tensorrt_llm/ready"


def test_a_plan_over_nodes_starts_one_leader_and_workers():
    container = engine_of(spec_of("triton-llmapi", "tp8-pp2"))
    assert container.command[:6] == (
        "python3", "/berth/group/leader.py", "8", "trtllm-llmapi-launch", "python3", "/berth/group/engine.py",
    )  # fmt: skip
    assert container.worker_command == ("python3", "/berth/group/worker.py")
    assert yaml.safe_load(container.files[MODEL_YAML])["gpus_per_node"] == 8
    assert engine_of(spec_of("triton-llmapi", "tp4")).worker_command == ()


def test_the_openai_server_is_told_by_flags_and_a_file():
    container = engine_of(spec_of("trtllm-serve", "tp4", expert_parallel=4))
    assert container.command == (
        "trtllm-serve", "/weights/llama-70b", "--host", "0.0.0.0", "--port", "8000", "--backend", "pytorch",
        "--tp_size", "4", "--pp_size", "1", "--ep_size", "4", "--max_batch_size", "64",
        "--max_num_tokens", "2048", "--max_seq_len", "16384", "--config", "/berth/config.yaml",
    )  # fmt: skip
    assert (container.protocol, container.readiness_path, container.metrics_path) == (
        "openai-http", "/health", "/prometheus/metrics",
    )  # fmt: skip
    assert container.env["TRTLLM_NO_USAGE_STATS"] == "1"
    extra = yaml.safe_load(container.files["config.yaml"])
    assert extra["return_perf_metrics"] is True
    assert "max_batch_size" not in extra


def test_the_openai_server_reads_calls_of_tools_as_the_catalog_says():
    command = engine_of(spec_of("trtllm-serve", tool_parser="qwen3")).command
    assert command[command.index("--tool_parser") + 1] == "qwen3"


def test_weights_from_outside_are_loaded_once_by_whoever_needs_them():
    hub = spec_of("triton-llmapi", weights=HUB)
    (job,) = engine_of(hub).jobs
    assert (job.kind, job.network, job.gpus) == ("load", True, 0)
    assert job.command[-4:] == (
        "hugging-face", "https://hub.example/meta/llama", "0ff1ce", f"/weights/{job.output}",
    )  # fmt: skip
    assert f"model: /weights/{job.output}\n" in engine_of(hub).files[MODEL_YAML]
    (again,) = engine_of(spec_of("trtllm-serve", "tp4", weights=HUB)).jobs
    assert again.output == job.output
    (other,) = engine_of(spec_of("triton-llmapi", weights=dataclasses.replace(HUB, revision="1"))).jobs
    assert other.output != job.output


def test_quantizing_makes_a_checkpoint_that_is_served():
    spec = spec_of("triton-llmapi", "tp4", weights=dataclasses.replace(HUB, quantize="fp8"), precision="fp8")
    load, quantize = engine_of(spec).jobs
    assert (load.kind, quantize.kind, quantize.gpus, quantize.network) == ("load", "quantize", 4, False)
    command = " ".join(quantize.command[3:])
    assert command.startswith(f"/cache/{quantize.output} python3 /app/examples/quantization/quantize.py")
    assert f"--model_dir /weights/{load.output} --output_dir {{output}}" in command
    assert "--qformat fp8" in command
    assert command.endswith("--export_format hf")
    assert f"model: /cache/{quantize.output}\n" in engine_of(spec).files[MODEL_YAML]


def test_an_engine_is_built_for_what_shapes_it_and_shared_otherwise():
    def built(**changes):
        return engine_of(spec_of("triton-engine", **changes)).jobs[-1]

    job = built()
    assert [each.kind for each in engine_of(spec_of("triton-engine")).jobs] == ["quantize", "build"]
    command = " ".join(job.command)
    assert "trtllm-build --checkpoint_dir /cache/checkpoint-" in command
    assert "--use_paged_context_fmha enable" in command
    assert built(name="another-r7", replicas=5).output == job.output
    assert built(tuning=dataclasses.replace(spec_of("triton-engine").tuning, drain_s=5)).output == job.output
    different = [
        built(gpu_type="a100_sxm"),
        built(context_tokens=8192),
        built(max_batch_size=8),
        built(weights=Weights(kind=WeightsKind.PVC, uri="models/other")),
        built(weights=dataclasses.replace(spec_of("triton-engine").weights, quantize="fp8")),
        built(image=dataclasses.replace(IMAGE, engine_version="1.1.0")),
        built(gpus_per_replica=2, tensor_parallel=2),
    ]
    assert len({job.output, *(other.output for other in different)}) == 8
    served = yaml.safe_load(engine_of(spec_of("triton-engine")).files[MODEL_YAML])
    assert (served["backend"], served["model"]) == ("tensorrt", f"/cache/{job.output}")
    assert served["tokenizer"] == "/weights/llama-70b"


@pytest.mark.parametrize(
    ("runtime", "changes", "message"),
    [
        ("vllm", {}, "there is no runtime 'vllm'"),
        ("triton-llmapi", {"image": None}, "pin one by digest"),
        ("triton-python", {"image": None}, "pin one by digest"),
        ("triton-llmapi", {"weights": Weights()}, "brings no weights"),
        ("triton-llmapi", {"tensor_parallel": 2}, "needs 2 GPUs, but a replica has 1"),
        ("triton-llmapi", {"expert_parallel": 2}, "must divide tensor_parallel 1"),
        ("triton-llmapi", {"parameters": {"x": "1"}}, "knows no parameters, not x"),
        ("triton-llmapi", {"tuning": Tuning(scheduler_policy="FAIR")}, "scheduler_policy must be one of"),
        ("triton-llmapi", {"tuning": Tuning(kv_cache_fraction=1.0)}, "kv_cache_fraction must lie between"),
        ("triton-llmapi", {"precision": "int3"}, "precision must be one of"),
        (
            "triton-llmapi",
            {"image": dataclasses.replace(IMAGE, engine_version="2.0.0")},
            "2.0.0 is not known",
        ),
        ("triton-llmapi", {"weights": dataclasses.replace(HUB, revision="")}, "need a revision"),
        ("triton-llmapi", {"weights": dataclasses.replace(HUB, quantize="int3")}, "quantize must be one of"),
        (
            "triton-llmapi",
            {"weights": Weights(kind=WeightsKind.PVC, uri="claim/../../etc")},
            "a uri of the form claim/path",
        ),
        ("triton-llmapi", {"weights": Weights(kind=WeightsKind.OCI_IMAGE, uri="r/x:1")}, "with a digest"),
        (
            "triton-llmapi",
            {"weights": Weights(kind=WeightsKind.OBJECT_STORE, uri="ftp://x")},
            "need a uri s3://",
        ),
        (
            "triton-llmapi",
            {**SHAPES["tp8-pp2"], "weights": dataclasses.replace(HUB, quantize="fp8")},
            "quantized already",
        ),
        ("triton-engine", SHAPES["tp8-pp2"], "runs on one node"),
        ("triton-engine", {"image": dataclasses.replace(IMAGE, engine_version="1.3.0")}, "up to 1.2"),
        (
            "triton-engine",
            {"image": EngineImage(reference="a", digest="sha256:b")},
            "not an unnamed version",
        ),
        ("triton-python", {"model": "llama"}, "ships the model 'berth-docs-ngram'"),
        ("triton-python", {"weights": HUB}, "ships its own weights"),
    ],
)
def test_what_can_never_run_is_refused_with_what_to_change(runtime, changes, message):
    with pytest.raises(InvalidDeployment, match=message):
        engine_of(spec_of(runtime, **changes))


def test_equal_specs_give_equal_containers():
    for runtime in RUNTIMES:
        assert engine_of(spec_of(runtime)) == engine_of(spec_of(runtime))


def test_a_class_that_promises_is_run_for_latency_and_one_that_does_not_for_throughput():
    chat = defaults_for("chat", ttft_bound=True, itl_bound=True)
    bulk = defaults_for("bulk", ttft_bound=True, itl_bound=False)
    assert chat.max_num_tokens < bulk.max_num_tokens
    assert chat.chunked_prefill
    assert (chat.scheduler_policy, bulk.scheduler_policy) == ("GUARANTEED_NO_EVICT", "MAX_UTILIZATION")
    assert (chat.kv_cache_dtype, bulk.kv_cache_dtype) == ("auto", "fp8")
    assert chat.drain_s < bulk.drain_s
    assert defaults_for("x", ttft_bound=False, itl_bound=False) == bulk
