"""A transformer behind pilotage-serve: loaded by its manifest's backend, answered off the loop, never kept waiting."""

import asyncio
import json
import threading

import msgspec
import pytest
from unit.trainer.transformers.tiny import SCHEMA, build_model, build_prompts, build_tokenizer

from pilotage_core.dialog import ACCEPT, DEFAULT_FORMAT, REJECT, VERDICT_MARK
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.open import find_foreign_code, load_models
from pilotage_trainer.backends.transformers.asking.export import write_transformer
from pilotage_trainer.serving import serve

PROMPT = build_prompts(3)[-1]


@pytest.fixture(scope="module")
def models(tmp_path_factory):
    """A revision, written and loaded."""
    folder = tmp_path_factory.mktemp("r1")
    tokenizer = build_tokenizer()
    made = Manifest("policy", "star/weather", "r1", "", "data", "config", DEFAULT_FORMAT.digest, "", {})
    policy = write_transformer(folder / "policy", made, build_model(len(tokenizer)), tokenizer)
    made = msgspec.structs.replace(made, kind="critic", policy=policy.digest)
    write_transformer(folder / "critic", made, build_model(len(tokenizer), seed=1), tokenizer)
    return load_models(folder)


async def ask(server: serve.ModelServer, path: str, body: object) -> tuple[int, dict]:
    sent = []

    async def receive() -> dict:
        return {"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}

    async def send(message: dict) -> None:
        sent.append(message)

    scope = {"type": "http", "method": "POST" if body is not None else "GET", "path": path, "headers": []}
    await serve.build_app(server)(scope, receive, send)
    return sent[0]["status"], json.loads(sent[1]["body"] or b"{}")


def chat(**changes: object) -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "action", "schema": SCHEMA}}
    asked = {"model": "policy", "messages": [{"role": "user", "content": PROMPT}], "response_format": form}
    return {**asked, "max_tokens": 6, "logprobs": True, **changes}


async def test_replies_scores_and_tokens_are_the_models_own(models):
    policy, critic = models
    server = serve.ModelServer(policy, critic)
    status, reply = await ask(server, "/v1/chat/completions", chat())
    expected = policy.answer(PROMPT, SCHEMA, 6)
    assert (status, reply["choices"][0]["message"]["content"]) == (200, expected.text)
    told = reply["choices"][0]["logprobs"]["content"]
    assert [(token["token"], token["logprob"]) for token in told] == [
        (text, pytest.approx(logprob, abs=1e-4)) for text, logprob in expected.tokens
    ]
    assert reply["usage"]["completion_tokens"] == len(told)
    query = PROMPT + '{"tool":"close_chat"}'
    ids = [(await ask(server, "/tokenize", {"prompt": word}))[1]["tokens"] for word in (ACCEPT, REJECT)]
    body = {"query": query, "items": [VERDICT_MARK], "label_token_ids": [i for (i,) in ids]}
    _, scored = await ask(server, "/generative_scoring", body)
    assert scored["data"][0]["score"] == pytest.approx(critic.score_many([query])[0], abs=1e-6)
    assert scored["usage"]["prompt_tokens"] == critic.count_tokens(query) + critic.count_tokens(VERDICT_MARK)


@pytest.mark.parametrize(
    ("path", "body", "message"),
    [
        ("/v1/chat/completions", chat(messages=[{"role": "user", "content": "x " * 3000}]), "the model reads 2048"),
        ("/v1/chat/completions", chat(messages=[{"role": "user", "content": ""}]), "empty"),
        ("/generative_scoring", {"query": "x", "items": ["y"], "label_token_ids": [10**6]}, "out of vocabulary range"),
        ("/generative_scoring", {"query": "", "items": [""], "label_token_ids": [1]}, "nothing to read"),
    ],
)
async def test_a_bad_request_gets_vllms_error(models, path, body, message):
    status, reply = await ask(serve.ModelServer(*models), path, body)
    assert status == 400
    assert message in reply["error"]["message"]


async def test_health_is_answered_while_a_request_runs_and_too_many_are_turned_away(models, monkeypatch):
    server = serve.ModelServer(*models)
    monkeypatch.setattr(serve, "LONGEST_QUEUE", 2)
    free = threading.Event()
    answer = server.answers.policy.policy.propose
    monkeypatch.setattr(models[0].policy, "propose", lambda *a: free.wait(20) and answer(*a))
    waiting = [asyncio.create_task(ask(server, "/v1/chat/completions", chat())) for _ in range(2)]
    await asyncio.sleep(0)
    assert (await ask(server, "/v1/chat/completions", chat()))[0] == 503
    assert (await ask(server, "/health", None))[0] == 200
    free.set()
    assert [status for status, _ in await asyncio.gather(*waiting)] == [200, 200]


async def test_who_waited_too_long_is_told_so_instead_of_answered(models, monkeypatch):
    monkeypatch.setattr(serve, "PATIENCE_SECONDS", -1.0)
    status, reply = await ask(serve.ModelServer(*models), "/v1/chat/completions", chat())
    assert (status, "waited" in reply["error"]["message"]) == (503, True)


def test_code_is_compared_with_that_of_its_own_backend(models):
    assert [find_foreign_code(model.manifest) for model in models] == ["", ""]
