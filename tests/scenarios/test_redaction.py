"""Whatever goes wrong or well: no key, token, password or prompt is found where Berth writes.

Secrets are made and shown once, used rightly and wrongly, put into every field that takes one; prompts fail in every
way. Then everything that Berth has written is searched for them, as they are and as base64 or hex.
"""

from __future__ import annotations

import contextlib
import json
import re
import secrets
import threading
import uuid

import httpx
import openai
import pytest

from embedded.datadir import read_json
from portal.demo import accounts
from tenants import secret_keys
from tests.scenarios import leaks
from tests.scenarios.stack import Session, Stack, wait
from tests.tenants.receiver import receiving

pytestmark = [pytest.mark.xdist_group("stack"), pytest.mark.timeout(600)]

#: Where secrets rest by their nature.
HOLDS_SECRETS = {
    "mail": "an invitation's link is in the mail that takes it to the invited person",
    "secrets.json": "the secrets of this installation, readable by its owner alone",
    "postgres.json": "the passwords of the database's roles, readable by their owner alone",
    "redis.json": "the password of Redis, readable by its owner alone",
    "services.json": "the addresses of both with their passwords, readable by their owner alone",
}


class Canaries(dict[str, str]):
    """Secrets by what they are. None may be found anywhere."""

    def made(self, name: str) -> str:
        """Make one that was never there before."""
        self[name] = f"canary{secrets.token_hex(12)}"
        return self[name]

    def key(self, name: str) -> str:
        """Make a key that is well formed and that nobody issued."""
        self[name] = secret_keys.generate()
        return self[name]


@pytest.fixture(scope="module")
def operator(stack):
    return stack.sign_in(accounts.OPERATOR)


@pytest.fixture(scope="module")
def endpoint(owner):
    ordered = owner.order(f"redaction-{uuid.uuid4().hex[:6]}")
    yield owner.await_state(ordered["id"], "ready")
    owner.delete(f"/endpoints/{ordered['id']}")


@pytest.fixture(scope="module")
def answers() -> list[httpx.Response]:
    """What was answered to what was wrong."""
    return []


@pytest.fixture(scope="module")
def told(stack, owner, operator, endpoint, answers) -> tuple[Canaries, bytes, str]:
    """Carry everything out; gives the canaries, what the queues heard, and a word that must be found."""
    canaries, control = Canaries(), f"control-{secrets.token_hex(6)}"
    redis_url = read_json(stack.data_dir.file("services.json"))["redis_url"]
    with leaks.Queues(redis_url) as queues:
        owner.post("/projects", {"name": control, "slug": control})
        key = keys(stack, owner, canaries, answers)
        people(stack, owner, canaries, answers)
        webhooks(owner, canaries)
        estate(stack, owner, operator, canaries, answers)
        prompts(stack, key, endpoint["name"], canaries, answers)
        failures(stack, owner, key, endpoint, canaries, answers)
        batches(stack, key, endpoint["name"], canaries)
        used = owner.order(f"redaction-{uuid.uuid4().hex[:6]}")  # its id goes through the queues
        owner.delete(f"/endpoints/{used['id']}")
        wait(lambda: used["id"].encode() in unfolded(queues.heard), 60, lambda: "the queues were not heard")
        heard = queues.heard
    return canaries, heard, control


def unfolded(data: bytes) -> bytes:
    return b"\n".join(leaks.unfolded(data))


def keys(stack: Stack, owner: Session, canaries: Canaries, answers: list[httpx.Response]) -> str:
    """Keys are made, rotated, revoked, and used where they are of no use."""
    body = {"name": "redaction", "scope": "inference", "project": "default"}
    headers = {"Idempotency-Key": uuid.uuid4().hex}
    made = owner.post("/keys", body, **headers)
    assert owner.post("/keys", body, **headers)["key"] == made["key"], "the kept answer shows it again"
    canaries["inference key"] = made["key"]
    management = owner.post("/keys", {"name": "redaction-m", "scope": "management", "role": "viewer"})
    canaries["management key"] = management["key"]
    canaries["rotated key"] = owner.post(f"/keys/{management['id']}:rotate", {})["key"]
    revoked = owner.post("/keys", body | {"name": "redaction-r"})
    canaries["revoked key"] = revoked["key"]
    owner.post(f"/keys/{revoked['id']}:revoke")
    wrong = [
        canaries.key("unknown key"),
        canaries.made("cut key"),
        revoked["key"],
        canaries["management key"],
    ]
    for text in wrong:
        headers = {"Authorization": f"Bearer {text}"}
        answers += [
            httpx.get(f"{stack.gateway}/v1/models", headers=headers),
            httpx.get(f"{stack.gateway}/v1/models?api_key={text}", headers=headers),
            httpx.get(f"{stack.portal}/api/v1/keys", headers={"Authorization": f"Bearer {text}x"}),
            httpx.get(f"{stack.portal}/api/v1/no-such-path", headers=headers),
        ]
    client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=made["key"], max_retries=0)
    wait(lambda: serves(client), 30, lambda: "the gateway does not know the key")
    return made["key"]


def serves(client: openai.OpenAI) -> bool:
    try:
        return bool(list(client.models.list()))
    except openai.OpenAIError:
        return False


def people(stack: Stack, owner: Session, canaries: Canaries, answers: list[httpx.Response]) -> None:
    """Somebody is invited, and somebody else signs in wrongly."""
    address = f"{secrets.token_hex(6)}@invited.example"
    owner.post("/invitations", {"email": address, "role": "viewer"})
    canaries["invitation"] = token_mailed(stack, address)
    answers.append(httpx.get(f"{stack.portal}/invitations/{canaries.made('wrong invitation')}"))
    joining = httpx.get(f"{stack.portal}/invitations/{canaries['invitation']}", follow_redirects=True)
    assert joining.status_code == 200
    with httpx.Client(base_url=stack.portal) as client:
        page = client.get("/accounts/login/").text
        form = re.search(r'name="csrfmiddlewaretoken" value="([^"]+)"', page)
        assert form
        for csrf in (form[1], canaries.made("csrf token")):
            data = {
                "login": accounts.TENANTS[0].owner,
                "password": canaries.made(f"wrong password {csrf[:4]}"),
            }
            answers.append(client.post("/accounts/login/", data=data | {"csrfmiddlewaretoken": csrf}))


def token_mailed(stack: Stack, address: str) -> str:
    """Read the link out of the mail that took it there."""
    found: list[str] = []

    def there() -> bool:
        for path in stack.data_dir.folder("mail").iterdir():
            text = path.read_text(errors="replace").replace("=\n", "")
            if address in text:
                found.extend(re.findall(r"/invitations/([\w-]{30,})", text))
        return bool(found)

    wait(there, 60, lambda: f"no mail for {address}")
    return found[0]


def webhooks(owner: Session, canaries: Canaries) -> None:
    """A webhook is told of things under a secret that changes."""
    with receiving() as receiver:
        body = {"name": f"r-{uuid.uuid4().hex[:6]}", "url": receiver.url, "event_types": ["budget.spent"]}
        made = owner.post("/webhooks", body)
        canaries["webhook secret"] = made["secret"]
        canaries["second webhook secret"] = owner.post(f"/webhooks/{made['id']}/rotate")["secret"]
        owner.post(f"/webhooks/{made['id']}/test")
        assert receiver.came.wait(60)
    owner.delete(f"/webhooks/{made['id']}")


def estate(
    stack: Stack, owner: Session, operator: Session, canaries: Canaries, answers: list[httpx.Response]
) -> None:
    """Credentials of clusters, gateways and weights, right and wrong."""
    page = operator.client.get("/console/gateways/register").text
    form = {"csrfmiddlewaretoken": operator.client.cookies["csrftoken"], "name": f"gw-{uuid.uuid4().hex[:6]}"}
    region = re.search(r'<option value="([^"]+)"', page.partition('name="region"')[2])
    assert region, page
    shown = operator.client.post(
        "/console/gateways/register", data=form | {"region": region[1]}, headers={"Referer": stack.portal}
    )
    token = re.search(r"berth_gateway_[\w-]{40,}", shown.text)
    assert token, shown.text[:2000]
    canaries["gateway token"] = token[0]
    for path in ("/internal/v1/snapshot", "/api/v1/keys"):
        guess = {"Authorization": f"Bearer {canaries.key('gateway guess')}"}
        answers.append(httpx.get(stack.portal + path, headers=guess))
    for server in (
        "https://127.0.0.1:9",
        "https://169.254.169.254",
        f"https://me:{canaries.made('in url')}@10.0.0.1",
    ):
        body = {"server": server, "token": canaries.made(f"cluster token {server[:20]}")}
        answers.append(operator.client.post("/api/v1/clusters:check", json=body, headers=operator._csrf()))
    kubeconfig = json.dumps(
        {"kind": "Config", "users": [{"user": {"token": canaries.made("kubeconfig")}}], "x": "{"}
    )
    for text in (kubeconfig, kubeconfig[:-9] + ": [\n"):
        answers.append(
            operator.client.post(
                "/api/v1/clusters:check", json={"kubeconfig": text}, headers=operator._csrf()
            )
        )
    owner.client.put(
        "/api/v1/models/berth-docs-ngram/secret",
        json={"values": {"HF_TOKEN": canaries.made("weights token")}},
        headers=owner._csrf(),
    ).raise_for_status()
    owner.delete("/models/berth-docs-ngram/secret")
    owner.client.put(
        "/api/v1/models/berth-docs-ngram/secret",
        json={"values": {"hf token": canaries.made("refused weights token")}},
        headers=owner._csrf(),
    )


def prompts(stack: Stack, key: str, model: str, canaries: Canaries, answers: list[httpx.Response]) -> None:
    """Prompts that are answered, and prompts that are refused for every reason there is."""
    headers = {"Authorization": f"Bearer {key}"}
    client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=key, max_retries=0)
    client.completions.create(model=model, prompt=canaries.made("prompt"), max_tokens=4)
    for _ in client.chat.completions.create(
        model=model, messages=[{"role": "user", "content": canaries.made("chat")}], max_tokens=8, stream=True,
        user=canaries.made("user"),
    ):  # fmt: skip
        pass

    def ask(name: str, path: str = "/v1/completions", **changes: object) -> None:
        body = {"model": model, "prompt": canaries.made(name), "max_tokens": 4} | changes
        answers.append(httpx.post(stack.gateway + path, json=body, headers=headers))

    ask("unknown model", model="no-such-model")
    ask("wrong type", max_tokens="many")
    ask("out of range", temperature=99)
    ask("unknown field", no_such_field=1)
    ask("nested", prompt={"text": canaries.made("nested prompt")})
    ask("too long", prompt=canaries.made("long prompt") * 20_000)
    ask("wrong path", path="/v1/no-such-path")
    ask(
        "chat of nothing",
        path="/v1/chat/completions",
        messages=[{"role": "wizard", "content": canaries.made("role")}],
    )
    ask("embedding", path="/v1/embeddings", input=canaries.made("input"))
    ask("tools", path="/v1/chat/completions", messages=[{"role": "user", "content": canaries.made("tool chat")}],
        tools=[{"type": "function", "function": {"name": "f", "description": canaries.made("tool")}}])  # fmt: skip
    json_headers = headers | {"Content-Type": "application/json"}
    for content in (
        f'{{"model": "{model}", "prompt": "{canaries.made("bad json")}"'.encode(),
        f'{{"model": "{model}", "prompt": "{canaries.made("bad utf-8")}'.encode() + b"\xff\xfe",
        canaries.made("no json").encode(),
    ):
        answers.append(httpx.post(f"{stack.gateway}/v1/completions", content=content, headers=json_headers))
    answers.append(
        httpx.post(
            f"{stack.gateway}/v1/completions",
            json={"model": model, "prompt": canaries.made("prompt of a stranger")},
            headers={"Authorization": f"Bearer {canaries['unknown key']}"},
        )
    )
    with httpx.stream(  # the caller hangs up
        "POST", f"{stack.gateway}/v1/completions", headers=headers,
        json={"model": model, "prompt": canaries.made("hung up"), "max_tokens": 400, "stream": True},
    ) as stream:  # fmt: skip
        next(stream.iter_raw())


def failures(
    stack: Stack, owner: Session, key: str, endpoint: dict, canaries: Canaries, answers: list[httpx.Response]
) -> None:
    """The engine dies under a prompt, and comes back."""
    name = endpoint["name"]
    before = {replica["id"] for replica in owner.endpoint(endpoint["id"])["observed_replicas"]}
    ending, headers = threading.Event(), {"Authorization": f"Bearer {key}"}
    body = {"model": name, "prompt": canaries.made("prompt that fails"), "max_tokens": 300}

    def ask() -> None:
        while not ending.is_set():
            with contextlib.suppress(httpx.HTTPError):
                answers.append(
                    httpx.post(f"{stack.gateway}/v1/completions", json=body, timeout=20, headers=headers)
                )

    thread = threading.Thread(target=ask)
    thread.start()
    try:
        for engine in stack.processes("engine"):
            if name in " ".join(engine.cmdline()):
                engine.kill()
        wait(
            lambda: (
                owner.endpoint(endpoint["id"])["state"] == "ready"
                and before.isdisjoint(
                    each["id"] for each in owner.endpoint(endpoint["id"])["observed_replicas"]
                )
            ),
            120,
            lambda: str(owner.endpoint(endpoint["id"])),
        )
    finally:
        ending.set()
        thread.join(60)
    owner.get(f"/endpoints/{endpoint['id']}/logs")


def batches(stack: Stack, key: str, model: str, canaries: Canaries) -> None:
    """A file of prompts is worked off, and another cannot be."""
    client = openai.OpenAI(base_url=f"{stack.gateway}/v1", api_key=key, max_retries=0, timeout=60)
    lines = [
        {
            "custom_id": f"line-{number}", "method": "POST", "url": "/v1/completions",
            "body": {"model": of, "prompt": canaries.made(f"batch {number}"), "max_tokens": 4},
        }
        for number, of in enumerate([model, "no-such-model"])
    ]  # fmt: skip
    content = "\n".join(map(json.dumps, lines)).encode()
    file = client.files.create(file=(f"{canaries.made('file name')}.jsonl", content), purpose="batch")
    batch = client.batches.create(input_file_id=file.id, endpoint="/v1/completions", completion_window="24h")
    wait(
        lambda: client.batches.retrieve(batch.id).status in ("completed", "failed"),
        120,
        lambda: str(client.batches.retrieve(batch.id)),
    )


def test_the_search_finds_what_is_there(stack, told):
    """Whatever else passes, passes because the search can see."""
    _, heard, control = told
    assert leaks.found_in(f"x {secret_keys.generate()} y".encode(), {}) == {"a well-formed key"}
    assert leaks.found_in(b"x Y2FuYXJ5 \\x63616e617279aaaaaaaaaaaaaaaaaaaaaaaa", {"c": "canary"}) == {"c"}
    assert any(control.encode() in rows for _, rows in leaks.tables(stack.data_dir))
    assert b"clusters.endpoints.tasks" in unfolded(heard)
    logs = dict(leaks.files(stack.data_dir.logs, besides=()))
    assert {"web.log", "worker.log", "gateway.log"} <= set(logs)


def test_no_secret_is_in_any_file(stack, told):
    canaries, *_ = told
    wrong = {
        name: found
        for name, content in [
            *leaks.files(stack.data_dir.path, besides={*HOLDS_SECRETS, "postgres"}),
            *leaks.command_lines(stack.data_dir.instance),
            ("up.log", stack.log.read_bytes()),
        ]
        if (found := leaks.found_in(content, canaries))
    }
    assert wrong == {}


def test_no_secret_is_in_the_database_nor_in_its_own_files(stack, told):
    canaries, *_ = told
    wrong = {
        name: found
        for name, rows in leaks.tables(stack.data_dir)
        if (found := leaks.found_in(rows, canaries))
    }
    for name, content in leaks.files(stack.data_dir.path / "postgres", besides=()):
        found = {which for which, secret in canaries.items() if secret.encode() in content}
        if found:
            wrong[name] = found
    assert wrong == {}


def test_no_secret_was_in_the_arguments_of_a_task_or_elsewhere_in_the_queues(told):
    canaries, heard, _ = told
    assert leaks.found_in(heard, canaries) == set()


def test_no_answer_to_what_was_wrong_says_it_again(answers, told):
    canaries, *_ = told
    assert len(answers) > 30
    wrong = {
        f"{answer.request.method} {answer.url.path}: {answer.status_code}": found
        for answer in answers
        if answer.is_error
        and (found := leaks.found_in(answer.content + str(answer.headers).encode(), canaries))
    }
    assert wrong == {}


def test_what_they_show_of_themselves_tells_no_secret(stack, owner, operator, told):
    canaries, *_ = told
    shown = [httpx.get(f"{stack.gateway}/metrics")]
    shown += [operator.client.get(f"/api/v1/{path}") for path in ("clusters", "openapi.json")]
    shown += [
        owner.client.get(f"/api/v1/{path}")
        for path in ("keys", "webhooks", "invitations", "members", "projects")
    ]
    shown += [owner.client.get(path) for path in ("/keys", "/members", "/audit", "/settings/webhooks")]
    shown += [
        operator.client.get(f"/console/{path}") for path in ("", "gateways", "clusters", "audit", "people")
    ]
    assert sum(answer.status_code == 200 for answer in shown) > 10
    wrong = {
        str(answer.url): found for answer in shown if (found := leaks.found_in(answer.content, canaries))
    }
    assert wrong == {}


def test_secrets_of_the_installation_are_in_no_log_table_or_queue(stack, told):
    _, heard, _ = told
    held = {
        name: part
        for name, value in stack.secrets.items()
        for part in re.split(r"[:,]", value)
        if len(part) > 8
    }
    services = read_json(stack.data_dir.file("services.json"))
    for name in ("database_url", "database_owner_url", "redis_url"):
        password = re.search(r"://[^:/@]*:([^@]+)@", services[name])
        if password:
            held[name] = password[1]
    assert len(held) > 5
    places = [*leaks.files(stack.data_dir.logs, besides=()), *leaks.tables(stack.data_dir)]
    places.append(("up.log", stack.log.read_bytes()))
    assert {name: found for name, content in places if (found := leaks.found_in(content, held))} == {}
    # A process lets itself in by AUTH or HELLO.
    said = [line for line in heard.split(b"\n") if b'"AUTH"' not in line and b'"HELLO"' not in line]
    assert leaks.found_in(b"\n".join(said), held) == set()
