"""A stop reaches every replica there is, says how long that took, and who was not reached."""

import json
import socket
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer

import pytest
from typer.testing import CliRunner

from pilotage import stop
from pilotage.main import app


class Gateway:
    """Answers `POST /v1/suspend`; the first `fails` times with 503."""

    def __init__(self, fails: int = 0, says: bytes = b"") -> None:
        self.says = says
        self.asked: list[dict] = []
        outer = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                outer.asked.append(json.loads(self.rfile.read(int(self.headers["content-length"]))))
                self.send_response(503 if len(outer.asked) <= fails else 200)
                self.end_headers()
                self.wfile.write(outer.says or json.dumps({**outer.asked[-1], "at": "2026-12-01T10:00:00Z"}).encode())

            def log_message(self, *words: object) -> None:
                return

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, daemon=True).start()


@pytest.fixture
def gateways() -> Iterator[list[Gateway]]:
    made = [Gateway(), Gateway(fails=2)]
    yield made
    for gateway in made:
        gateway.server.shutdown()
        gateway.server.server_close()


@pytest.fixture
def hanging() -> Iterator[str]:
    """An address that takes connections and never answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=50) as listener:
        yield f"http://127.0.0.1:{listener.getsockname()[1]}"


@pytest.fixture(autouse=True)
def alone(monkeypatch, tmp_path):
    monkeypatch.setattr(stop, "ANSWER_SECONDS", 0.3)
    monkeypatch.setattr(stop, "WITHIN_SECONDS", 1.5)
    monkeypatch.setattr(stop, "FIND_SECONDS", 1.0)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    monkeypatch.setenv("KUBECONFIG", str(tmp_path / "none"))
    monkeypatch.delenv("PILOTAGE_GATEWAY", raising=False)


def run(*words: str) -> tuple[int, str]:
    done = CliRunner().invoke(app, [*words, "--who", "sre", "--why", "an incident"])
    return done.exit_code, done.output


def options(*urls: str) -> list[str]:
    return [word for url in urls for word in ("--gateway", url)]


def test_every_replica_is_stopped_one_that_fails_at_first_too(gateways):
    code, said = run("stop-all", *options(*(gateway.url for gateway in gateways)))
    assert code == 0
    assert said.count("✓") == 2
    assert "every process cluster at 2 of 2 replicas, the last one 0." in said
    wanted = {"process_cluster": "*", "suspended": True, "who": "sre", "why": "an incident"}
    assert [gateway.asked for gateway in gateways] == [[wanted], [wanted] * 3]


def test_one_that_hangs_delays_no_other_and_is_named_with_what_ends_its_permit(gateways, hanging):
    began = time.monotonic()
    code, said = run("stop-all", *options(hanging, gateways[0].url))
    assert code == 1
    assert f"✗ {hanging} was not reached: " in said
    assert "permit lapses: 60 s at the latest after the last controller is gone" in said
    assert "scale deployment pilotage-controller --replicas=0" in said
    assert "at 1 of 2 replicas, the last one 0." in said
    assert time.monotonic() - began < 10


@pytest.mark.parametrize("says", [b"ok", b"{}", b'{"process_cluster": "*", "suspended": false}'])
def test_an_answer_that_is_no_gateways_stops_nothing(says):
    stranger = Gateway(says=says)
    code, said = run("stop-all", *options(stranger.url))
    stranger.server.shutdown()
    stranger.server.server_close()
    assert code == 1
    assert "✗" in said


def test_resume_lifts_it_at_each_of_them(gateways):
    code, said = run("resume", *options(*(gateway.url for gateway in gateways)))
    assert code == 0
    assert "let go on: every process cluster at 2 of 2 replicas" in said
    assert gateways[0].asked[0]["suspended"] is False


def test_without_kubernetes_the_replicas_are_those_it_named_last(gateways, tmp_path, monkeypatch):
    port = gateways[0].server.server_port
    monkeypatch.setattr(stop, "PORT", port)
    (tmp_path / "pilotage").mkdir()
    (tmp_path / "pilotage" / "gateways.json").write_text(json.dumps({"prod": {"gateway-0": "127.0.0.1"}}))
    code, said = run("stop-all")
    assert code == 0
    assert "replicas as they were named last" in said
    assert "✓ gateway-0 refuses" in said


def test_a_program_that_signs_in_and_hangs_holds_up_no_stop(gateways, tmp_path, monkeypatch):
    monkeypatch.setattr(stop, "PORT", gateways[0].server.server_port)
    monkeypatch.setattr(stop, "_connect", lambda: time.sleep(30))
    (tmp_path / "pilotage").mkdir()
    (tmp_path / "pilotage" / "gateways.json").write_text(json.dumps({"prod": {"gateway-0": "127.0.0.1"}}))
    code, said = run("stop-all")
    assert code == 0
    assert "was not found within 1 s" in said
    assert "✓ gateway-0 refuses since 1." in said


def test_who_lets_go_has_to_say_of_which_installation(gateways, tmp_path, monkeypatch):
    """Without a context all that are known are stopped; none of them is let go."""
    monkeypatch.setattr(stop, "PORT", gateways[0].server.server_port)
    (tmp_path / "pilotage").mkdir()
    (tmp_path / "pilotage" / "gateways.json").write_text(json.dumps({"prod": {"gateway-0": "127.0.0.1"}}))
    code, said = run("resume")
    assert code == 2
    assert "--gateway URL" in said
    assert gateways[0].asked == []


@pytest.mark.parametrize("memory", [None, "{", "[]", '{"prod": []}'])
def test_where_nothing_is_known_it_says_what_to_do(memory, tmp_path):
    if memory is not None:
        (tmp_path / "pilotage").mkdir()
        (tmp_path / "pilotage" / "gateways.json").write_text(memory)
    code, said = run("stop-all")
    assert code == 2
    assert "--gateway URL" in said


def test_nobody_stops_everything_without_a_name():
    done = CliRunner().invoke(app, ["stop-all", "--who", " ", "--why", "x", "--gateway", "http://127.0.0.1:9"])
    assert done.exit_code == 2
    assert "say who" in done.output
