"""What is wrong in a cluster is read off it and said in words, without secrets."""

from __future__ import annotations

import dataclasses

import pytest

from clusters.drivers.kubernetes.troubles import redacted
from clusters.kube import kinds
from clusters.specs import Phase, Placement, ReplicaStatus, Trouble, Weights, WeightsKind
from tests.clusters.drivers.contract import deleted, observed_ready, until
from tests.clusters.drivers.kubernetes_world import IMAGE, KubernetesWorld
from tests.fakes.kubelet import Fault

pytestmark = pytest.mark.kubernetes
FETCHED = Weights(
    kind=WeightsKind.HUGGING_FACE, uri="https://mirror.test/acme/llama", revision="abc123", size_gib=1
)
TOKEN = "hf_abcdefghijklmnop"


def troubled(world: KubernetesWorld, name: str, trouble: Trouble) -> ReplicaStatus:
    """Wait until a deployment's first replica has the trouble."""

    def look() -> ReplicaStatus | None:
        status = world.driver.observe(name)
        found = [r for r in status.replicas if r.trouble is trouble] if status else []
        return found[0] if found else None

    return until(look, patience_s=world.patience_s, what=f"{trouble} of {name}")


@pytest.mark.parametrize(
    ("fault", "trouble", "says"),
    [
        (
            Fault("image", "manifest unknown"),
            Trouble.IMAGE_PULL,
            "cannot be pulled (ImagePullBackOff): manifest",
        ),
        (Fault("oom", restarts=2), Trouble.OUT_OF_MEMORY, "killed for using more main memory than its limit"),
        (
            Fault("crash", "no such tensor: https://me:word@files.test/x?token=abc", restarts=3, exit_code=7),
            Trouble.CRASH_LOOP,
            "Stopped 3 times. Last ended with exit code 7 (Error): no such tensor: https://***@files.test/x?token=***",
        ),
        (
            Fault("crash", "torch.OutOfMemoryError: CUDA out of memory. Tried to allocate 2.00 GiB"),
            Trouble.OUT_OF_MEMORY,
            "The GPU's memory does not suffice.",
        ),
    ],
    ids=["image", "memory", "crash", "gpu-memory"],
)
def test_an_engine_that_does_not_come_up_says_why(cluster, fault, trouble, says):
    name = f"trouble-{fault.kind}-{fault.restarts}-{trouble.name.lower().replace('_', '-')}"
    cluster.kubelet.faults[name] = fault
    cluster.driver.apply(cluster.spec(name))
    replica = troubled(cluster, name, trouble)
    assert says in replica.message
    assert replica.phase is Phase.STARTING  # it holds its GPUs all the while
    assert replica.failing
    cluster.kubelet.heal()
    assert observed_ready(cluster, name, replicas=1).replicas[0].trouble is Trouble.NONE


def test_the_schedulers_words_are_passed_on(cluster):
    placement = Placement(node_selector={"nvidia.com/gpu.product": "B200"})
    cluster.driver.apply(cluster.spec("nowhere", placement=placement))
    replica = troubled(cluster, "nowhere", Trouble.UNSCHEDULABLE)
    assert replica.phase is Phase.PENDING
    assert not replica.holds_gpus
    assert not replica.failing
    assert "nodes are available" in replica.message
    assert "didn't match Pod's node affinity/selector" in replica.message


def test_a_slow_start_is_no_trouble(cluster):
    cluster.kubelet.faults["slow"] = Fault("slow")
    cluster.driver.apply(cluster.spec("slow"))

    def loading() -> bool:
        found = cluster.driver.observe("slow").replicas
        return [(each.message, each.started_at is not None) for each in found] == [
            ("the engine loads its model", True)
        ]

    until(loading, patience_s=cluster.patience_s, what="loading")
    cluster.kubelet.heal()
    observed_ready(cluster, "slow", replicas=1)


def test_engines_wait_for_their_weights(cluster):
    """No GPU is held while weights are fetched; the key to them is nowhere but in a secret that Berth never reads."""
    spec = cluster.spec("fetching", runtime="triton-llmapi", weights=FETCHED, secrets={"HF_TOKEN": TOKEN})
    cluster.kubelet.faults["fetch"] = Fault("stuck", job="load-")
    assert cluster.driver.apply(spec) is True
    place = cluster.place(spec)

    def fetching() -> ReplicaStatus | None:
        found = cluster.driver.observe("fetching").replicas
        return next((each for each in found if "Fetching the weights" in each.message and each.node), None)

    replica = until(fetching, patience_s=cluster.patience_s, what="the job")
    assert (replica.phase, replica.holds_gpus, replica.trouble) == (Phase.PENDING, False, Trouble.NONE)
    (listed,) = (each for each in cluster.driver.deployments() if each.name == "fetching")
    assert listed == cluster.driver.observe("fetching")
    assert cluster.driver.apply(spec) is False
    assert cluster.kubelet.pods("fetching") == []
    cluster.kubelet.heal()

    def started() -> bool:
        return cluster.driver.apply(spec)

    until(started, patience_s=cluster.patience_s, what="the end of the job")
    observed_ready(cluster, "fetching", replicas=1)
    assert cluster.driver.apply(spec) is False
    seen = [(r.verb, r.resource) for r in cluster.requests if r.resource == "secrets"]
    assert seen
    assert {verb for verb, _ in seen} <= {"create", "patch", "delete"}
    anchor = cluster.admin.get(kinds.DEPLOYMENT, "fetching", place)
    assert TOKEN not in str(anchor)
    # Another key is handed on, once.
    other = dataclasses.replace(spec, secrets={"HF_TOKEN": TOKEN[::-1]})
    assert cluster.driver.apply(other) is True
    assert cluster.driver.apply(other) is False


def test_a_finished_job_that_somebody_removed_stops_no_engine(cluster):
    spec = cluster.spec("job-removed", runtime="triton-llmapi", weights=FETCHED)

    def up() -> bool:
        cluster.driver.apply(spec)
        status = cluster.driver.observe("job-removed")
        return bool(status) and [r.phase for r in status.replicas] == [Phase.READY]

    until(up, patience_s=cluster.patience_s, what="ready")
    (before,) = cluster.driver.observe("job-removed").replicas
    for job in cluster.admin.list(kinds.JOB, cluster.place(spec)).items:
        cluster.admin.delete(kinds.JOB, job["metadata"]["name"], cluster.place(spec))
    until(
        lambda: not cluster.admin.list(kinds.JOB, cluster.place(spec)).items,
        patience_s=cluster.patience_s,
        what="its absence",
    )
    assert cluster.driver.apply(spec) is True
    (after,) = observed_ready(cluster, "job-removed", replicas=1).replicas
    assert after.replica_id == before.replica_id


@pytest.mark.parametrize(
    ("job", "changes", "trouble", "says"),
    [
        ("load", {}, Trouble.WEIGHTS, "The weights could not be fetched: "),
        (
            "quantize",
            {"precision": "fp8", "weights": dataclasses.replace(FETCHED, quantize="fp8")},
            Trouble.BUILD,
            "Quantizing the checkpoint failed: ",
        ),
        (
            "build",
            {"runtime": "triton-engine", "image": dataclasses.replace(IMAGE, engine_version="1.2.1")},
            Trouble.BUILD,
            "Building the engine failed: ",
        ),
    ],
    ids=["load", "quantize", "build"],
)
def test_a_job_that_fails_says_why_and_may_be_tried_again(cluster, job, changes, trouble, says):
    name = f"unfit-{job}"
    spec = cluster.spec(name, **{"runtime": "triton-llmapi", "weights": FETCHED, **changes})
    steps = [f"step {number} of 12 is done" for number in range(1, 13)]
    last = [
        "GET https://me:word@mirror.test/acme/llama?token=abc123def gave 403",
        "Authorization: Bearer abcdef1234567890",
    ]
    cluster.kubelet.faults[job] = Fault("job", "\n".join([*steps, *last]), job=f"{job}-")

    def failed() -> ReplicaStatus | None:
        cluster.driver.apply(spec)  # one job follows the other
        return next((r for r in cluster.driver.observe(name).replicas if r.phase is Phase.FAILED), None)

    replica = until(failed, patience_s=cluster.patience_s, what="the job's end")
    assert (replica.trouble, replica.holds_gpus, replica.failing) == (trouble, False, True)
    clean = ["GET https://***@mirror.test/acme/llama?token=*** gave 403", "Authorization: Bearer ***"]
    assert replica.message == says + "\n".join([*steps[-6:], *clean])
    (listed,) = (each for each in cluster.driver.deployments() if each.name == name)
    assert [(r.trouble, r.message) for r in listed.replicas] == [(trouble, replica.message)]
    log = cluster.driver.logs(name, replica.replica_id)
    assert log.splitlines() == [*steps, *clean]
    assert cluster.kubelet.pods(name) == []  # no engine was begun
    cluster.kubelet.heal()
    cluster.driver.apply(dataclasses.replace(spec, replicas=0))  # pausing and resuming tries again

    def up() -> bool:
        cluster.driver.apply(spec)
        status = cluster.driver.observe(name)
        return bool(status) and [r.phase for r in status.replicas] == [Phase.READY]

    until(up, patience_s=cluster.patience_s, what="ready")


def test_shared_weights_stay_until_the_last_who_needs_them(cluster):
    one = cluster.spec("weights-one", runtime="triton-llmapi", weights=FETCHED)
    two = cluster.spec("weights-two", runtime="triton-llmapi", weights=FETCHED, owner=one.owner)
    three = cluster.spec("weights-none", owner=one.owner)
    place = cluster.place(one)
    for spec in (one, two, three):

        def up(spec=spec) -> bool:
            cluster.driver.apply(spec)
            status = cluster.driver.observe(spec.name)
            return bool(status) and [r.phase for r in status.replicas] == [Phase.READY]

        until(up, patience_s=cluster.patience_s, what="ready")
    claims = {each for each in cluster.everything(place) if each[0] in ("PersistentVolumeClaim", "Job")}
    assert len(claims) == 2  # the weights were fetched once for both
    deleted(cluster, one.name)
    assert claims <= set(cluster.everything(place))
    deleted(cluster, two.name)
    assert not claims & set(cluster.everything(place))
    deleted(cluster, three.name)
    assert cluster.admin.get(kinds.NAMESPACE, place) is None


def test_a_node_that_falls_silent_keeps_its_gpus(cluster):
    """Its engine may run on there: nobody says that it ended."""
    cluster.driver.apply(cluster.spec("silent"))
    (before,) = observed_ready(cluster, "silent", replicas=1).replicas
    cluster.kubelet.node_not_ready(before.node)
    lost = troubled(cluster, "silent", Trouble.NODE)
    assert (lost.phase, lost.holds_gpus, lost.replica_id) == (Phase.STARTING, True, before.replica_id)
    assert (lost.started_at, lost.ready_at, lost.failing) == (before.started_at, None, True)
    assert f"ode {before.node} is not ready: Kubelet stopped posting node status" in lost.message
    cluster.driver.delete("silent")
    going = troubled(cluster, "silent", Trouble.NODE)
    assert (going.phase, going.holds_gpus, going.replica_id) == (Phase.DRAINING, True, before.replica_id)
    cluster.kubelet.node_back(before.node)
    deleted(cluster, "silent")


def test_a_replica_of_a_node_that_is_gone_is_replaced_elsewhere(cluster):
    cluster.kubelet.add_node("doomed", labels={"pool": "doomed"})
    cluster.driver.apply(cluster.spec("on-doomed", placement=Placement(node_selector={"pool": "doomed"})))
    (before,) = observed_ready(cluster, "on-doomed", replicas=1).replicas
    assert before.node == "doomed"
    cluster.kubelet.node_gone("doomed")
    assert "gone from the cluster" in troubled(cluster, "on-doomed", Trouble.NODE).message
    assert cluster.driver.replace("on-doomed", before.replica_id) is True

    def struck() -> bool:
        return before.replica_id not in {r.replica_id for r in cluster.driver.observe("on-doomed").replicas}

    until(struck, patience_s=cluster.patience_s, what="its end")
    troubled(cluster, "on-doomed", Trouble.UNSCHEDULABLE)


def test_deleting_does_not_wait_for_a_node_that_is_gone(cluster):
    cluster.kubelet.add_node("lost", labels={"pool": "lost"})
    cluster.driver.apply(cluster.spec("on-lost", placement=Placement(node_selector={"pool": "lost"})))
    observed_ready(cluster, "on-lost", replicas=1)
    cluster.kubelet.node_gone("lost")
    deleted(cluster, "on-lost")


def test_an_engines_log_is_shown_without_credentials(cluster):
    cluster.driver.apply(cluster.spec("logged"))
    (replica,) = observed_ready(cluster, "logged", replicas=1).replicas
    (pod,) = cluster.kubelet.pods("logged")
    cluster.kubelet.write_log(pod, f"loading with {TOKEN}\nready\n")
    log = until(
        lambda: cluster.driver.logs("logged", replica.replica_id, lines=5),
        patience_s=cluster.patience_s,
        what="a log",
    )
    assert log == "loading with ***\nready\n"
    assert cluster.driver.logs("logged", "nobody") == ""


@pytest.mark.parametrize(
    ("text", "clean"),
    [
        ("s3://key:secret@host/bucket", "s3://***@host/bucket"),
        ("GET https://h.test/x?X-Amz-Signature=0a1b&y=1", "GET https://h.test/x?X-Amz-Signature=***&y=1"),
        ("Authorization: Bearer eyJhbGciOi.abc", "Authorization: Bearer ***"),
        ("AWS_SECRET_ACCESS_KEY=abcdefgh", "AWS_SECRET_ACCESS_KEY=***"),
        ("AWS_SECRET_ACCESS_KEY='a b; c'", "AWS_SECRET_ACCESS_KEY='***'"),
        ('password="x"', 'password="***"'),
        ('{"hf_token": "x", "n": 3}', '{"hf_token": "***", "n": 3}'),
        (r"said {\"api_key\": \"x\", \"n\": 3}", r"said {\"api_key\": \"***\", \"n\": 3}"),
        (r'token="a\"b" c', 'token="***" c'),
        ('tokenizer: "llama", max_tokens: "12"', 'tokenizer: "llama", max_tokens: "12"'),
        ("max_num_tokens=8192 tokens: 17", "max_num_tokens=8192 tokens: 17"),
        ("https://h.test/model:1 has 3 tokens", "https://h.test/model:1 has 3 tokens"),
    ],
)
def test_credentials_are_taken_out_and_nothing_else(text, clean):
    assert redacted(text) == clean
