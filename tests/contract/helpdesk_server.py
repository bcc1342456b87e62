"""A real django-helpdesk on a database of the test's own (helpdesk/), where hack/screens/setup.sh has installed it."""

import os
import socket
import subprocess
import time
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple

HERE = Path(__file__).parent
INSTALLED = HERE.parents[1] / ".venv" / "screens"


class Helpdesk(NamedTuple):
    """A running django-helpdesk and the session of a member of staff."""

    address: str
    cookie: str


@contextmanager
def run_helpdesk(folder: Path) -> Iterator[Helpdesk]:
    python = str(INSTALLED / "bin" / "python")
    environment = {**os.environ, "HELPDESK_DATABASE": str(folder / "db"), "DJANGO_SETTINGS_MODULE": "settings"}
    options = {"cwd": HERE / "helpdesk", "env": environment}
    cookie = subprocess.run([python, "seed.py"], **options, check=True, capture_output=True, text=True).stdout.strip()
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    command = [python, "-m", "django", "runserver", "--noreload", "--insecure", address]
    with (folder / "log").open("wb") as log:
        server = subprocess.Popen(command, **options, stdout=log, stderr=log)
        try:
            until = time.monotonic() + 60
            while not _answers(f"http://{address}/login/"):
                assert server.poll() is None, (folder / "log").read_text()
                assert time.monotonic() < until, "the helpdesk has not come up"
                time.sleep(0.1)
            yield Helpdesk(f"http://{address}", cookie)
        finally:
            server.terminate()
            server.wait()


def _answers(url: str) -> bool:
    try:
        with urllib.request.build_opener(urllib.request.ProxyHandler({})).open(url, timeout=5) as reply:
            return bool(reply.status == 200)
    except OSError:
        return False
