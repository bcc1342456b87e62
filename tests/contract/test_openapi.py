"""The gateway's document held against the gateway: requests made of it, answers that have to be as it says."""

import hashlib
import json
import os
import socket
import subprocess
import sys
import time
import urllib.request
from collections.abc import Iterator
from pathlib import Path

import pytest

SOURCE, AUDITOR = "secret-of-the-source-1", "secret-of-the-auditor"
EXAMPLES = 60


@pytest.fixture(scope="module")
def url(tmp_path_factory) -> Iterator[str]:
    """A gateway process that knows one source and one auditor."""
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "sources.json").write_text(json.dumps([{"source": "bpm", "namespaces": ["*"], "secret": SOURCE}]))
    auditor = {"name": "a", "sha256": hashlib.sha256(AUDITOR.encode()).hexdigest(), "role": "auditor"}
    (folder / "access.json").write_text(json.dumps({"programs": [{**auditor, "namespaces": ["*"]}]}))
    with socket.create_server(("127.0.0.1", 0)) as server:
        port = server.getsockname()[1]
    command = [
        str(Path(sys.executable).with_name("pilotage-gateway")), "--listen", f"127.0.0.1:{port}",
        "--database", f"sqlite:///{folder}/g.db", "--keys", str(folder), "--log-level", "error",
        "--sources", str(folder / "sources.json"), "--access", str(folder / "access.json"),
    ]  # fmt: skip
    process = subprocess.Popen(command)
    try:
        end = time.monotonic() + 30
        while True:
            try:
                urllib.request.urlopen(f"http://127.0.0.1:{port}/healthz", timeout=1).close()
                break
            except OSError:
                assert time.monotonic() < end
                time.sleep(0.05)
        yield f"http://127.0.0.1:{port}"
        assert process.poll() is None, "it is still there"
    finally:
        process.terminate()
        process.wait(20)


READS = "^/(v1/(sessions|cards|decisions|export|labels|status|openapi)|healthz|readyz)"
CHECKS = (
    "not_a_server_error,status_code_conformance,content_type_conformance,response_headers_conformance,"
    "response_schema_conformance,negative_data_rejection,unsupported_method,missing_required_header"
)


@pytest.mark.parametrize(
    ("secret", "paths"),
    [(SOURCE, "^/v1/sessions/.*/events$"), (AUDITOR, READS)],
    ids=["a source posts", "an auditor reads"],
)
def test_what_the_document_says_is_how_the_gateway_answers(url, tmp_path, secret, paths):
    command = [
        str(Path(sys.executable).with_name("st")), "run", f"{url}/v1/openapi.json",
        "-H", f"Authorization: Bearer {secret}", "-n", str(EXAMPLES), "--checks", CHECKS,
        "--phases", "coverage,fuzzing", "--include-path-regex", paths,
        "--no-color", "--seed", "1",
    ]  # fmt: skip
    done = subprocess.run(
        command, cwd=tmp_path, capture_output=True, text=True, timeout=300, check=False,
        env=os.environ | {"COLUMNS": "160"},
    )  # fmt: skip
    assert done.returncode == 0, done.stdout[-6000:]
    assert "generated" in done.stdout
