"""The count models' server answers in vLLM's shape: the fixtures are vLLM's own fields, checked against its sources.

/generative_scoring: vllm/entrypoints/generate/generative_scoring/serving.py (GenerativeScoringRequest, …Response) and
api_router.py; chat, completions, models, errors: vllm/entrypoints/openai (ChatCompletionResponse, …, ErrorResponse).
"""

import json
import math
import os
import signal
import socket
import subprocess
import sys
import time
import urllib.error
import urllib.request
from pathlib import Path

import msgspec
import pytest
from tenacity import wait_none

from pilotage_core.actions import ActionRules
from pilotage_core.certificate import ScoreSource
from pilotage_core.dialog import ACCEPT, DEFAULT_FORMAT, REJECT
from pilotage_core.errors import EvidenceError, UnavailableError
from pilotage_core.proposal import build_action_schema
from pilotage_core.screen import Control, ControlKind, Screen
from pilotage_trainer.artefact import MANIFEST, Manifest, write_artefact
from pilotage_trainer.backends.counts import find_maker
from pilotage_trainer.backends.counts.counts import Example, build_contexts, count_steps
from pilotage_trainer.backends.counts.critic import StoredCritic
from pilotage_trainer.backends.counts.policy import Policy, StoredPolicy, StoredWeights
from pilotage_trainer.backends.counts.served import POLICY_FILE
from pilotage_trainer.backends.interface import CRITIC_FILE
from pilotage_trainer.backends.open import load_models
from pilotage_trainer.backends.rates import Rates
from pilotage_trainer.backends.situation import read_prompt
from pilotage_trainer.certify import scorers
from pilotage_trainer.certify.scorers import InProcess, ServedPair

PROMPT = "@ domains=weather\n% form\n+ input input:City=Rome\n+ button submit\n+ reply reply:hello=Hello!\n>"
SCREEN = Screen("form", controls=(Control("submit", ControlKind.BUTTON), Control("reply:hello", ControlKind.REPLY)))
SCHEMA = build_action_schema(ActionRules(), SCREEN)
QUERY = PROMPT + '{"tool":"click_control","control_id":"submit"}'

VLLM_CHAT = {"id", "object", "created", "model", "choices", "usage"}
VLLM_CHAT_CHOICE = {"index", "message", "logprobs", "finish_reason", "stop_reason"}
VLLM_CHAT_TOKEN = {"token", "logprob", "bytes", "top_logprobs"}
VLLM_COMPLETION_CHOICE = {"index", "text", "logprobs", "finish_reason", "stop_reason"}
VLLM_COMPLETION_LOGPROBS = {"text_offset", "token_logprobs", "tokens", "top_logprobs"}
VLLM_SCORING = {"id", "object", "created", "model", "data", "usage"}
VLLM_SCORE = {"index", "object", "score"}
VLLM_USAGE = {"prompt_tokens", "total_tokens", "completion_tokens"}
VLLM_ERROR = {"message", "type", "param", "code"}
VLLM_CARD = {"id", "object", "created", "owned_by", "root", "parent", "max_model_len", "permission"}
VLLM_TOKENS = {"count", "max_model_len", "tokens", "token_strs"}


@pytest.fixture(scope="module")
def revision(tmp_path_factory) -> Path:
    """A revision whose policy submits a filled form, and whose critic mostly agrees."""
    folder = tmp_path_factory.mktemp("artefacts") / "r1"
    steps = ["click_control submit"] * 8 + ["say"] * 2
    counts = count_steps(Example(i, build_contexts(read_prompt(PROMPT)), (), step) for i, step in enumerate(steps))
    policy = Policy(StoredPolicy(counts, StoredWeights((), (), b"", b""), 0.0))
    rates = Rates(tuple({"": (9.0, 10.0)} if i == 0 else {} for i in range(5)))
    critic = StoredCritic(ScoreSource.CRITIC, 0.5, {"confidence": 1.0}, rates)
    made = Manifest("policy", "star/weather", "r1", "counts", "d", "c", DEFAULT_FORMAT.digest, find_maker().code, {})
    written = write_artefact(folder / "policy", made, {POLICY_FILE: policy.encode()})
    of_critic = msgspec.structs.replace(made, kind="critic", policy=written.digest)
    files = {CRITIC_FILE: msgspec.json.encode(critic), POLICY_FILE: policy.encode()}
    write_artefact(folder / "critic", of_critic, files)
    return folder


@pytest.fixture(scope="module")
def server(revision):
    """`pilotage-serve` as a process: its address."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    command = [sys.executable, "-m", "pilotage_trainer.serving.serve", "--artefact", str(revision), "--listen"]
    process = subprocess.Popen([*command, f"127.0.0.1:{port}"], env={**os.environ, "OMP_NUM_THREADS": "1"})
    address = f"http://127.0.0.1:{port}"
    deadline = time.monotonic() + 20
    while request(address, "GET", "/health")[0] != 200:
        assert process.poll() is None, "the server ended"
        assert time.monotonic() < deadline, "the server does not answer"
        time.sleep(0.05)
    yield address
    process.send_signal(signal.SIGTERM)
    assert process.wait(10) in (0, -signal.SIGTERM)


def request(address: str, method: str, path: str, body: object = None) -> tuple[int, object]:
    """Status and JSON (or text) of one request; 0 where nothing listens."""
    data = body if isinstance(body, bytes) else json.dumps(body).encode() if body is not None else None
    asked = urllib.request.Request(address + path, data=data, method=method)
    try:
        with urllib.request.urlopen(asked, timeout=10) as reply:
            status, answer = reply.status, reply.read()
    except urllib.error.HTTPError as error:
        status, answer = error.code, error.read()
    except urllib.error.URLError:
        return 0, ""
    try:
        return status, json.loads(answer)
    except ValueError:
        return status, answer.decode()


def chat(**changes: object) -> dict[str, object]:
    """A chat request as a gateway sends it."""
    form = {"type": "json_schema", "json_schema": {"name": "action", "schema": SCHEMA}}
    asked = {"model": "policy", "messages": [{"role": "user", "content": PROMPT}], "response_format": form}
    return {**asked, "max_tokens": 512, "temperature": 0, "logprobs": True, **changes}


def scoring(**changes: object) -> dict[str, object]:
    """A scoring request as a gateway sends it."""
    asked = {"model": "critic", "query": QUERY, "items": [""], "label_token_ids": [1, 0], "apply_softmax": True}
    return {**asked, **changes}


def test_chat_completions(server):
    status, reply = request(server, "POST", "/v1/chat/completions", chat())
    assert status == 200
    assert reply.keys() >= VLLM_CHAT
    assert reply["object"] == "chat.completion"
    (choice,) = reply["choices"]
    assert choice.keys() >= VLLM_CHAT_CHOICE
    assert choice["message"] == {"role": "assistant", "content": '{"tool":"click_control","control_id":"submit"}'}
    (token,) = choice["logprobs"]["content"]
    assert token.keys() == VLLM_CHAT_TOKEN
    assert bytes(token["bytes"]).decode() == token["token"] == choice["message"]["content"]
    assert 0.5 < math.exp(token["logprob"]) < 1.0
    assert reply["usage"].keys() >= VLLM_USAGE


def test_chat_without_logprobs_and_with_content_in_parts(server):
    parts = [{"type": "text", "text": PROMPT[:20]}, {"type": "text", "text": PROMPT[20:]}]
    asked = chat(messages=[{"role": "system", "content": "x"}, {"role": "user", "content": parts}], logprobs=False)
    status, reply = request(server, "POST", "/v1/chat/completions", asked)
    assert (status, reply["choices"][0]["logprobs"]) == (200, None)
    assert "submit" in reply["choices"][0]["message"]["content"]


def test_a_schema_without_the_likeliest_step_gets_nothing_proposed(server):
    without = build_action_schema(ActionRules(), Screen("form"))
    form = {"type": "json_schema", "json_schema": {"name": "action", "schema": without}}
    _, reply = request(server, "POST", "/v1/chat/completions", chat(response_format=form))
    assert reply["choices"][0]["message"]["content"] == '{"tool":""}'


def test_completions(server):
    status, reply = request(server, "POST", "/v1/completions", {"model": "policy", "prompt": PROMPT, "logprobs": 1})
    assert status == 200
    assert reply["object"] == "text_completion"
    (choice,) = reply["choices"]
    assert choice.keys() >= VLLM_COMPLETION_CHOICE
    assert choice["logprobs"].keys() == VLLM_COMPLETION_LOGPROBS
    assert choice["text"] == choice["logprobs"]["tokens"][0]


def test_generative_scoring(server):
    status, reply = request(server, "POST", "/generative_scoring", scoring())
    assert status == 200
    assert reply.keys() >= VLLM_SCORING
    assert reply["object"] == "list"
    (item,) = reply["data"]
    assert item.keys() == VLLM_SCORE
    assert (item["index"], item["object"]) == (0, "score")
    assert 0.5 < item["score"] < 1.0
    assert reply["usage"].keys() >= VLLM_USAGE


def test_the_score_is_of_the_first_label_softmaxed_over_those_given(server):
    accept = request(server, "POST", "/generative_scoring", scoring())[1]["data"][0]["score"]
    reject = request(server, "POST", "/generative_scoring", scoring(label_token_ids=[0, 1]))[1]["data"][0]["score"]
    alone = request(server, "POST", "/generative_scoring", scoring(label_token_ids=[1]))[1]["data"][0]["score"]
    plain = scoring(label_token_ids=[1], apply_softmax=False)
    assert accept + reject == pytest.approx(1.0)
    assert alone == 1.0
    assert request(server, "POST", "/generative_scoring", plain)[1]["data"][0]["score"] == accept


def test_items_are_appended_to_the_query_or_put_first(server):
    cut = len(PROMPT)
    items = [QUERY[cut:], '{"tool":"close_chat"}']
    _, after = request(server, "POST", "/generative_scoring", scoring(query=PROMPT, items=items))
    _, before = request(
        server, "POST", "/generative_scoring", scoring(query=QUERY[cut:], items=[PROMPT], item_first=True)
    )
    _, whole = request(server, "POST", "/generative_scoring", scoring())
    assert [item["index"] for item in after["data"]] == [0, 1]
    assert after["data"][0]["score"] == before["data"][0]["score"] == whole["data"][0]["score"]
    assert after["data"][1]["score"] < after["data"][0]["score"]


def test_tokenize_gives_the_ids_of_accept_and_reject(server):
    for word, token in ((ACCEPT, 1), (REJECT, 0)):
        status, reply = request(server, "POST", "/tokenize", {"model": "critic", "prompt": word})
        assert (status, reply["tokens"], reply["count"]) == (200, [token], 1)
        assert reply.keys() >= VLLM_TOKENS


def test_models_tell_the_artefact_digests(server, revision):
    status, reply = request(server, "GET", "/v1/models")
    assert status == 200
    digests = {kind: json.loads((revision / kind / MANIFEST).read_text())["digest"] for kind in ("policy", "critic")}
    assert {card["id"]: card["root"] for card in reply["data"]} == digests
    assert all(card.keys() >= VLLM_CARD for card in reply["data"])


BAD = [
    ("/v1/chat/completions", b"{", 400, "truncated"),
    ("/v1/chat/completions", b'{"messages": 1}', 400, "$.messages"),
    ("/v1/chat/completions", {"model": "policy"}, 400, "messages"),
    ("/v1/chat/completions", chat(messages=[{"role": "system", "content": "x"}]), 400, "role user"),
    ("/v1/chat/completions", chat(stream=True), 400, "stream"),
    ("/v1/chat/completions", chat(messages=[{"role": "user", "content": '>{"tool":"dance"}'}]), 400, "dance"),
    (
        "/v1/chat/completions",
        chat(response_format={"type": "json_schema", "json_schema": {"name": "a", "schema": {"type": "string"}}}),
        400,
        "schema",
    ),
    ("/v1/chat/completions", chat(model="gpt"), 404, "The model `gpt` does not exist."),
    ("/v1/completions", {"model": "critic", "prompt": "x"}, 404, "does not exist"),
    ("/generative_scoring", scoring(label_token_ids=[]), 400, "label_token_ids must contain at least one token ID."),
    ("/generative_scoring", scoring(label_token_ids=[7]), 400, "label_token_id 7 is out of vocabulary range [0, 2)"),
    ("/generative_scoring", scoring(items=[]), 400, "items must contain at least one item."),
    ("/generative_scoring", scoring(query=PROMPT), 400, "does not end with a proposed action"),
    ("/generative_scoring", scoring(query="no dialog"), 400, "does not end with a proposed action"),
    ("/generative_scoring", scoring(query=PROMPT + "{}"), 400, "tool"),
    ("/generative_scoring", scoring(query=[1, 2]), 400, "query"),
    ("/tokenize", {"prompt": "perhaps"}, 400, "vocabulary"),
    ("/nowhere", {}, 404, "Not Found"),
    ("/health", {}, 405, "Method Not Allowed"),
]


@pytest.mark.parametrize(("path", "body", "status", "message"), BAD)
def test_a_bad_request_gets_vllms_error(server, path, body, status, message):
    got, reply = request(server, "POST", path, body)
    assert got == status
    assert reply["error"].keys() == VLLM_ERROR
    assert reply["error"]["code"] == status
    assert message in reply["error"]["message"]


def test_a_huge_request_is_refused(server):
    status, reply = request(server, "POST", "/v1/completions", b'"' + b"x" * (5 << 20))
    assert status in (0, 413)  # 0: the server closed while it was still being sent to
    assert status == 0 or "larger" in reply["error"]["message"]


def test_metrics_have_vllms_names(server):
    request(server, "POST", "/generative_scoring", scoring())
    status, text = request(server, "GET", "/metrics")
    assert status == 200
    assert 'vllm:request_success_total{finished_reason="stop",model_name="critic"}' in text
    assert "vllm:e2e_request_latency_seconds_bucket" in text
    assert "vllm:prompt_tokens_total" in text


def test_served_and_in_process_scores_are_the_same_to_the_last_bit(server, revision):
    policy, critic = load_models(revision)
    _, reply = request(server, "POST", "/v1/chat/completions", chat())
    text, probability = policy.propose(PROMPT, SCHEMA)
    assert reply["choices"][0]["message"]["content"] == text
    assert reply["choices"][0]["logprobs"]["content"][0]["logprob"] == math.log(probability)
    _, scored = request(server, "POST", "/generative_scoring", scoring())
    assert scored["data"][0]["score"] == critic.score(QUERY)


def test_calibration_asks_the_server_what_it_would_ask_in_process(server, revision):
    policy, critic = load_models(revision)
    served, here = ServedPair(server, server), InProcess(policy, critic)
    assert served.read_digests() == {"policy": policy.manifest.digest, "critic": critic.manifest.digest}
    asks = [(PROMPT, SCHEMA), (PROMPT.replace("Rome", ""), SCHEMA), ("@ a=b\n>", SCHEMA)]
    assert served.propose_all(asks) == here.propose_all(asks)
    queries = [QUERY, PROMPT + '{"tool":"close_chat"}'] * 20
    assert served.score_all(queries) == here.score_all(queries)


def test_what_a_server_refuses_has_no_reply_unless_it_refuses_all(server, revision):
    policy, _ = load_models(revision)
    served, refused = ServedPair(server, server), (PROMPT, {"type": "string"})
    assert served.propose_all([(PROMPT, SCHEMA), refused]) == [policy.propose(PROMPT, SCHEMA), ("", None)]
    with pytest.raises(EvidenceError, match="HTTP 400"):
        served.propose_all([refused, refused])


def test_a_server_that_is_not_there_is_unavailable_and_another_one_speaks_wrongly(server, monkeypatch):
    monkeypatch.setattr(scorers._request.retry, "wait", wait_none())
    with pytest.raises(UnavailableError, match="tried 5 times"):
        ServedPair("http://127.0.0.1:9", "http://127.0.0.1:9").read_digests()
    with pytest.raises(EvidenceError, match="HTTP 404"):
        ServedPair(server + "/elsewhere", server).propose_all([(PROMPT, SCHEMA)])


def test_serving_imports_no_training_library():
    code = "import sys, pilotage_trainer.serving.serve; "
    code += "print({'sklearn', 'scipy', 'typer', 'aiohttp'} & sys.modules.keys())"
    told = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert told.stdout.strip() == "set()"


@pytest.mark.parametrize(
    ("damage", "message"),
    [
        (lambda folder: (folder / POLICY_FILE).write_bytes(b"x"), "is not what its manifest says"),
        (lambda folder: (folder / POLICY_FILE).unlink(), "cannot be read"),
        (lambda folder: (folder / MANIFEST).write_text("{}"), "is no manifest"),
        (lambda folder: (folder / MANIFEST).unlink(), "neither a policy nor a critic"),
        (
            lambda folder: (folder / MANIFEST).write_text((folder / MANIFEST).read_text().replace("weather", "trivia")),
            "was altered",
        ),
    ],
)
def test_a_damaged_artefact_is_not_served(revision, tmp_path, damage, message):
    copy = tmp_path / "policy"
    copy.mkdir()
    for file in (revision / "policy").iterdir():
        (copy / file.name).write_bytes(file.read_bytes())
    damage(copy)
    command = [
        sys.executable,
        "-m",
        "pilotage_trainer.serving.serve",
        "--artefact",
        str(copy),
        "--listen",
        "127.0.0.1:0",
    ]
    ended = subprocess.run(command, capture_output=True, text=True, timeout=20, check=False)
    assert ended.returncode == 6
    assert message in ended.stderr
