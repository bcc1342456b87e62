"""The real vLLM serves what we export, and says what our own inference says: replies, scores, token ids.

Three servers in all (policy and critic in fp32, the critic in bf16), started together by the command the controller
builds; `pilotage-serve` answers the same requests beside them.
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
from collections.abc import Iterator
from pathlib import Path

import msgspec
import pytest
import torch
from transformers import AutoModelForCausalLM
from unit.trainer.transformers.tiny import ACTIONS, SCHEMA, build_model, build_prompts, build_tokenizer

from pilotage_core.dialog import ACCEPT, DEFAULT_FORMAT, REJECT, VERDICT_MARK, encode_action
from pilotage_operator.manifests.inference_service import build_vllm_command
from pilotage_trainer.artefact import Manifest
from pilotage_trainer.backends.transformers.asking.export import write_transformer
from pilotage_trainer.backends.transformers.asking.inference import CriticModel, PolicyModel
from pilotage_trainer.certify.scorers import ServedPair

ROOT = Path(__file__).parents[2]
VLLM = ROOT / ".venv/vllm/bin"
CI = os.environ.get("CI") == "true"
START_SECONDS = 600

pytestmark = [
    pytest.mark.vllm,
    pytest.mark.skipif(
        not CI and not (VLLM / "vllm").exists(), reason="vLLM is not installed: hack/vllm/setup.sh does it"
    ),
]

SERVERS = (("policy", "float32"), ("critic", "float32"), ("critic", "bfloat16"))
POLICY, CRITIC, ROUNDED = (f"{name} {dtype}" for name, dtype in SERVERS)
PROMPTS = [*build_prompts(8, "Rome"), *build_prompts(3, "Oslo")]
QUERIES = [
    prompt + encode_action(ACTIONS[index % len(ACTIONS)], DEFAULT_FORMAT) for index, prompt in enumerate(PROMPTS)
]
CUT = "\ufffd"
"""What a character that was cut in its middle reads as."""
TEXTS = [PROMPTS[-1], QUERIES[0], VERDICT_MARK, ACCEPT, REJECT, "café ünïcode \\n 'x'  <|end|>", '{"tool":""}']


@pytest.fixture(scope="module")
def revision(tmp_path_factory) -> Path:
    """A policy and a critic of random weights, exported."""
    folder = tmp_path_factory.mktemp("artefacts") / "r1"
    tokenizer = build_tokenizer()
    made = Manifest("policy", "star/weather", "r1", "", "data", "config", DEFAULT_FORMAT.digest, "", {})
    policy = write_transformer(folder / "policy", made, build_model(len(tokenizer), seed=0), tokenizer)
    made = msgspec.structs.replace(made, kind="critic", policy=policy.digest)
    write_transformer(folder / "critic", made, build_model(len(tokenizer), seed=1, scale=0.1), tokenizer)
    return folder


@pytest.fixture(scope="module")
def vllm(revision, tmp_path_factory) -> Iterator[dict[str, str]]:
    """The addresses of the vLLM servers."""
    logs = tmp_path_factory.mktemp("logs")
    environment = {
        **os.environ,
        "PATH": f"{VLLM}{os.pathsep}{os.environ['PATH']}",
        "HF_HUB_OFFLINE": "1",
        "OMP_NUM_THREADS": "1",
        "TORCHDYNAMO_DISABLE": "1",  # else the first request waits for a C++ compiler, minutes on a busy machine
        "VLLM_CPU_KVCACHE_SPACE": "1",
        "VLLM_CPU_OMP_THREADS_BIND": "nobind",
        "VLLM_NO_USAGE_STATS": "1",
    }
    running: dict[str, tuple[str, subprocess.Popen[bytes]]] = {}
    try:
        for name, dtype in SERVERS:
            port = find_free_port()
            command = build_vllm_command(str(revision / name), name, f"127.0.0.1:{port}")
            command += ["--enforce-eager", "--dtype", dtype]
            served = f"{name} {dtype}"
            with (logs / served).open("wb") as log:
                process = subprocess.Popen(command, env=environment, stdout=log, stderr=log, start_new_session=True)
            running[served] = (f"http://127.0.0.1:{port}", process)
        for name, (address, process) in running.items():
            wait_until_healthy(address, process, START_SECONDS, logs / name)
        yield {name: address for name, (address, _) in running.items()}
    finally:
        for _, process in running.values():
            end_group(process)


@pytest.fixture(scope="module")
def ours(revision, tmp_path_factory) -> Iterator[str]:
    """The address of pilotage-serve with both models."""
    log = tmp_path_factory.mktemp("logs") / "ours"
    address = f"http://127.0.0.1:{find_free_port()}"
    command = [sys.executable, "-m", "pilotage_trainer.serving.serve", "--artefact", str(revision), "--listen"]
    with log.open("wb") as file:
        process = subprocess.Popen([*command, address.removeprefix("http://")], stderr=file, start_new_session=True)
    try:
        wait_until_healthy(address, process, 120, log)
        yield address
    finally:
        end_group(process)


def find_free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


def wait_until_healthy(address: str, process: subprocess.Popen[bytes], seconds: float, log: Path) -> None:
    deadline = time.monotonic() + seconds
    while True:
        assert process.poll() is None, f"the server ended: {log.read_text()[-3000:]}"
        assert time.monotonic() < deadline, f"the server is not healthy after {seconds} s: {log.read_text()[-3000:]}"
        try:
            with urllib.request.urlopen(address + "/health", timeout=5):
                return
        except OSError:
            time.sleep(0.2)


def end_group(process: subprocess.Popen[bytes]) -> None:
    """vLLM's engine is a process of its own: the whole group goes."""
    for sign, seconds in ((signal.SIGTERM, 15), (signal.SIGKILL, 15)):
        if process.poll() is None:
            os.killpg(process.pid, sign)
            try:
                process.wait(seconds)
            except subprocess.TimeoutExpired:
                continue
    try:
        os.killpg(process.pid, signal.SIGKILL)
    except ProcessLookupError:
        return


def ask(address: str, path: str, body: object | None = None) -> tuple[int, dict]:
    data = None if body is None else json.dumps(body).encode()
    request = urllib.request.Request(address + path, data=data, headers={"Content-Type": "application/json"})
    try:
        with urllib.request.urlopen(request, timeout=120) as reply:
            return reply.status, json.loads(reply.read())
    except urllib.error.HTTPError as error:
        return error.code, json.loads(error.read())


def chat(address: str, prompt: str, schema: dict | None = SCHEMA, **changes: object) -> dict:
    form = {"type": "json_schema", "json_schema": {"name": "action", "schema": schema}} if schema else None
    body = {"model": "policy", "messages": [{"role": "user", "content": prompt}], "response_format": form}
    status, reply = ask(
        address, "/v1/chat/completions", body | {"max_tokens": 24, "temperature": 0, "logprobs": True} | changes
    )
    assert status == 200, reply
    return reply


def score(address: str, query: str, labels: list[int]) -> float:
    body = {"model": "critic", "query": query, "items": [VERDICT_MARK], "label_token_ids": labels}
    status, reply = ask(address, "/generative_scoring", body | {"apply_softmax": True, "add_special_tokens": False})
    assert status == 200, reply
    return reply["data"][0]["score"]


def read_plain_score(folder: Path, query: str, dtype: torch.dtype, labels: list[int]) -> float:
    """What transformers itself says, from the text as one piece."""
    model = AutoModelForCausalLM.from_pretrained(folder, dtype=dtype)
    ids = CriticModel.load(folder).tokenizer(query + VERDICT_MARK, add_special_tokens=False, return_tensors="pt")
    with torch.inference_mode():
        logits = model(ids["input_ids"]).logits[0, -1].float()
    return torch.softmax(logits[labels], dim=-1)[0].item()


def test_the_policy_gives_the_same_action_with_the_same_log_probabilities(vllm, revision):
    model = PolicyModel.load(revision / "policy")
    expected = model.propose_many([(prompt, SCHEMA) for prompt in PROMPTS], 24)
    worst = 0.0
    for prompt, proposal in zip(PROMPTS, expected, strict=True):
        (choice,) = chat(vllm[POLICY], prompt)["choices"]
        assert choice["message"]["content"].rstrip(CUT) == proposal.reply.rstrip(CUT)
        assert choice["finish_reason"] == ("stop" if proposal.finished else "length")
        told = [token["logprob"] for token in choice["logprobs"]["content"]]
        worst = max(worst, *(abs(a - b) for a, b in zip(told, proposal.told, strict=True)))
    print(f"largest difference of a log probability: {worst:.2g}")
    assert worst < 1e-3


def test_a_chat_is_the_prompt_and_nothing_else(vllm, revision):
    model = PolicyModel.load(revision / "policy")
    reply = chat(vllm[POLICY], PROMPTS[0], max_tokens=1)
    assert reply["usage"]["prompt_tokens"] == len(model.encode([PROMPTS[0]])[0])


def test_what_is_not_bound_by_a_schema_is_the_same_too(vllm, revision):
    proposal = PolicyModel.load(revision / "policy").propose(PROMPTS[3], None, 12)
    (choice,) = chat(vllm[POLICY], PROMPTS[3], None, max_tokens=12)["choices"]
    assert choice["message"]["content"].rstrip(CUT) == proposal.reply.rstrip(CUT)


def test_the_critics_scores_are_those_of_transformers(vllm, revision):
    critic = CriticModel.load(revision / "critic")
    labels = list(critic.labels)
    worst = dict.fromkeys(("transformers, fp32", "our inference", "transformers, bf16"), 0.0)
    for query, here in zip(QUERIES, critic.score_many(QUERIES), strict=True):
        served, rounded = (score(vllm[name], query, labels) for name in (CRITIC, ROUNDED))
        found = {
            "transformers, fp32": read_plain_score(revision / "critic", query, torch.float32, labels) - served,
            "our inference": here - served,
            "transformers, bf16": read_plain_score(revision / "critic", query, torch.bfloat16, labels) - rounded,
        }
        worst = {name: max(largest, abs(found[name])) for name, largest in worst.items()}
    print("largest differences from vLLM:", {name: f"{difference:.2g}" for name, difference in worst.items()})
    assert worst["transformers, fp32"] < 1e-4
    assert worst["our inference"] < 1e-4
    assert worst["transformers, bf16"] < 0.02


def test_texts_are_turned_into_the_same_tokens(vllm, ours, revision):
    model = PolicyModel.load(revision / "policy")
    for text, expected in zip(TEXTS, model.encode(TEXTS), strict=True):
        body = {"prompt": text, "add_special_tokens": False}
        for address, name in ((vllm[POLICY], "policy"), (vllm[CRITIC], "critic"), (ours, "policy")):
            status, reply = ask(address, "/tokenize", body | {"model": name})
            assert (status, reply["tokens"], reply["count"]) == (200, expected, len(expected))


def test_pilotage_serve_answers_the_same_requests_in_the_same_shape(vllm, ours):
    for prompt in PROMPTS[:4]:
        theirs, own = chat(vllm[POLICY], prompt), chat(ours, prompt)
        assert own.keys() <= theirs.keys()
        assert own["choices"][0].keys() <= theirs["choices"][0].keys()
        assert own["usage"] == {name: theirs["usage"][name] for name in own["usage"]}
        texts = [reply["choices"][0]["message"]["content"].rstrip(CUT) for reply in (own, theirs)]
        assert texts[0] == texts[1]
        tokens = [reply["choices"][0]["logprobs"]["content"] for reply in (own, theirs)]
        for mine, its in zip(*tokens, strict=True):
            assert mine["token"] == its["token"] or CUT in mine["token"]  # a byte of a character is told otherwise
            assert math.isclose(mine["logprob"], its["logprob"], abs_tol=1e-3)


def test_calibration_reads_the_same_from_vllm_as_from_pilotage_serve(vllm, ours, revision):
    asks = [(prompt, SCHEMA) for prompt in PROMPTS[:3]]
    theirs, own = ServedPair(vllm[POLICY], vllm[CRITIC]), ServedPair(ours, ours)
    assert theirs.read_digests() == own.read_digests()
    assert theirs.score_all(QUERIES) == pytest.approx(own.score_all(QUERIES), abs=1e-4)
    assert theirs.score_all(QUERIES) == pytest.approx(
        CriticModel.load(revision / "critic").score_many(QUERIES), abs=1e-4
    )
    replies = list(zip(theirs.propose_all(asks), own.propose_all(asks), strict=True))
    assert [text[:20] for (text, _), _ in replies] == [text[:20] for _, (text, _) in replies]
    assert [sure for (_, sure), _ in replies] == [pytest.approx(sure, abs=1e-3) for _, (_, sure) in replies]


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        ("/v1/chat/completions", {"model": "other", "messages": [{"role": "user", "content": "x\n>"}]}, 404),
        ("/generative_scoring", {"model": "critic", "query": "x", "items": [], "label_token_ids": [5]}, 400),
        ("/generative_scoring", {"model": "critic", "query": "x", "items": ["y"], "label_token_ids": [10**6]}, 400),
    ],
)
def test_a_bad_request_gets_the_same_status(vllm, ours, path, body, status):
    address = vllm[POLICY] if "chat" in path else vllm[CRITIC]
    assert ask(address, path, body)[0] == ask(ours, path, body)[0] == status
