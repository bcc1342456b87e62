"""Two controllers at a real API server, and a gateway's own client: who leads, and what a change of leader costs.

They run as processes here; Lease, epoch, key and the review of the gateway's token are the API server's.
"""

import asyncio
import base64
import contextlib
import json
import os
import signal
import socket
import sys
import time
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
import pytest
from manifests import INSTALLATION, has_cluster, kubectl

from pilotage_gateway import permits as gateway_permits
from pilotage_gateway.permits import Keys, Permits

pytestmark = [
    pytest.mark.kubernetes,
    pytest.mark.skipif(not has_cluster(), reason="no cluster: KUBECONFIG is not set"),
]
NAMESPACE = "pilotage-replicas"
PROGRAM = str(Path(sys.executable).with_name("pilotage-controller"))
LOOK = 0.02


@pytest.fixture(scope="module")
def installation(tmp_path_factory) -> Path:
    """Definitions and admission as installed, a namespace of its own, and a gateway's token."""
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(INSTALLATION.parents[1] / "crds"), check=True)
    kubectl("apply", "-f", str(INSTALLATION / "admission.yaml"), check=True)
    kubectl("create", "namespace", NAMESPACE, check=True)
    kubectl("create", "serviceaccount", "pilotage-gateway", "-n", NAMESPACE, check=True)
    audience = ("--audience", "pilotage-controller")
    made = kubectl("create", "token", "pilotage-gateway", "-n", NAMESPACE, *audience, check=True)
    folder = tmp_path_factory.mktemp("gateway")
    (folder / "token").write_text(made.stdout.strip())
    yield folder
    kubectl("delete", "namespace", NAMESPACE, "--wait=false")


def free_port(address: str) -> int:
    with socket.socket() as found:
        found.bind((address, 0))
        return int(found.getsockname()[1])


class Replica:
    """One controller, at an address of its own."""

    def __init__(self, name: str, address: str, port: int, log: Path) -> None:
        self.name, self.url, self._log = name, f"http://{address}:{port}", log.open("a")
        self._listen = f"{address}:{port}"
        self.process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        env = os.environ | {"POD_NAMESPACE": NAMESPACE, "POD_NAME": self.name, "PILOTAGE_IMAGE": "image@sha256:1"}
        nowhere = ("--gateway", "http://127.0.0.1:9", "--prometheus", "http://127.0.0.1:9")
        command = (PROGRAM, "--kubernetes", "--listen", self._listen, *nowhere)
        self.process = await asyncio.create_subprocess_exec(*command, env=env, stdout=self._log, stderr=self._log)

    async def end(self, number: signal.Signals) -> None:
        assert self.process is not None
        with contextlib.suppress(ProcessLookupError):
            self.process.send_signal(number)
        await asyncio.wait_for(self.process.wait(), 20)

    async def readiness(self, client: aiohttp.ClientSession) -> str:
        try:
            async with client.get(f"{self.url}/readyz", timeout=aiohttp.ClientTimeout(1.0)) as answer:
                return await answer.text()
        except (aiohttp.ClientError, TimeoutError):
            return ""


class Watched(Permits):
    """A gateway's client that notes every moment in which it had no leave."""

    gaps: list[float]

    async def watch(self) -> None:
        """Until cancelled: times at which there was none."""
        self.gaps = []
        while True:
            if self.remaining_ms() == 0:
                self.gaps.append(time.monotonic())
            await asyncio.sleep(LOOK)


@contextlib.asynccontextmanager
async def playing(folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Two replicas behind one name, and a gateway's client that has leave."""
    port = free_port("127.0.0.2")
    replicas = [Replica(f"controller-{n}", f"127.0.0.{n + 2}", port, tmp_path / f"{n}.log") for n in (0, 1)]

    async def find_both(controller):
        return [str(urlsplit(one.url).hostname) for one in replicas]

    async def remember(*_: object) -> None:
        return

    monkeypatch.setattr(gateway_permits, "find_addresses", find_both)
    for replica in replicas:
        await replica.start()
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    options = {"remember_epoch": remember, "remember_parts": remember, "on_leaves": list}
    client = Watched(f"http://pilotage-controllers:{port}", Keys(keys), token=folder / "token", **options)
    tasks = []
    try:
        async with aiohttp.ClientSession() as http:
            await until(lambda: leading(replicas, http), 60, "nobody leads")
            copy_keys(keys)
            tasks.append(asyncio.create_task(client.run()))
            await until(lambda: asyncio.sleep(0, client.remaining_ms() > 0), 30, "no leave")
            tasks.append(asyncio.create_task(client.watch()))
            await until(lambda: standing_by(replicas, http), 30, "no standby is ready")
            yield replicas, client, http
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        for replica in replicas:
            await replica.end(signal.SIGKILL)


def copy_keys(folder: Path) -> None:
    """The public keys that controllers publish, as a gateway's volume has them."""
    found = kubectl("get", "configmap", "pilotage-permit-keys", "-n", NAMESPACE, "-o", "json", check=True)
    for name, value in json.loads(found.stdout)["binaryData"].items():
        (folder / name).write_bytes(base64.b64decode(value))


async def until(asks, seconds: float, what: str):
    limit = time.monotonic() + seconds
    while not (found := await asks()):
        assert time.monotonic() < limit, what
        await asyncio.sleep(LOOK)
    return found


async def leading(replicas, http) -> list[Replica]:
    return [one for one in replicas if "leading" in await one.readiness(http)]


async def standing_by(replicas, http) -> list[Replica]:
    return [one for one in replicas if "standby" in await one.readiness(http)]


async def test_one_leads_and_the_other_is_ready_to(installation, tmp_path, monkeypatch):
    async with playing(installation, tmp_path, monkeypatch) as (replicas, client, http):
        assert len(await leading(replicas, http)) == 1
        holder = kubectl(
            "get", "lease", "pilotage-controller", "-n", NAMESPACE, "-o", "jsonpath={.spec.holderIdentity}"
        )
        assert holder.stdout.rpartition("_")[0] == (await leading(replicas, http))[0].name
        assert client.gaps == []


async def test_a_leader_that_stops_as_asked_costs_no_moment_of_leave(installation, tmp_path, monkeypatch):
    async with playing(installation, tmp_path, monkeypatch) as (replicas, client, http):
        [leader] = await leading(replicas, http)
        epoch = client.highest_epoch
        await leader.end(signal.SIGTERM)
        await until(lambda: asyncio.sleep(0, client.highest_epoch > epoch), 20, "nobody took over")
        gap = len(client.gaps) * LOOK
        print(f"without leave for {gap:.1f} s")  # 0 on a quiet machine
        assert gap < 3.0, "the Lease was waited out"


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGSTOP])
async def test_a_standby_takes_over_from_one_that_is_gone_within_ten_seconds(
    installation, tmp_path, monkeypatch, number
):
    async with playing(installation, tmp_path, monkeypatch) as (replicas, client, http):
        [leader] = await leading(replicas, http)
        epoch, began = client.highest_epoch, time.monotonic()
        leader.process.send_signal(number)
        await until(lambda: asyncio.sleep(0, client.highest_epoch > epoch), 30, "nobody took over")
        took = time.monotonic() - began
        assert client.remaining_ms() > 0
        print(f"took over after {took:.1f} s")
        assert took < 20.0
        if number is signal.SIGSTOP:  # it wakes up and thinks it leads: what it signs gives no leave
            leader.process.send_signal(signal.SIGCONT)
            await until(lambda: is_standby(leader, http), 20, "it still leads")
            assert client.highest_epoch == epoch + 1


async def is_standby(replica: Replica, http) -> bool:
    return "standby" in await replica.readiness(http)
