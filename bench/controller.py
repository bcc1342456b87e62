"""What does the controller cost for a hundred, a thousand, ten thousand process clusters, and how fast does it revoke?

    python bench/controller.py [--clusters 100 1000 10000] [--breaches 200] [--output bench/results/controller.json]

The real process, with the rights it is installed with, against a real API server (KUBECONFIG: `make bench-operator`
brings one up) and a real Prometheus. All process clusters are in Automation, each with a gate, a policy critic and two
model servers of its own, and share 50 ConfigMaps of screens; each has ten counters. What is measured: from the start
until everything was decided and permits are signed; memory; a minute in which nothing changes; a minute in which one in
a hundred changes with each scrape; and, at --breach-clusters, the time from the scrape that shows a breach until the
last of 20 gateways holds no leave. Gateways are the gateway's own permit client, all in one process.
"""

import argparse
import asyncio
import base64
import contextlib
import json
import os
import random
import re
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
from controller_fleet import SYSTEM, Counting, Fleet, ask_prometheus, install, kubectl
from provenance import describe_run

from pilotage_core.wire import Leave
from pilotage_gateway.permits import Keys, Permits
from pilotage_operator.kubernetes_api import KubernetesApi, find_credentials

ROOT = Path(__file__).resolve().parents[1]
CONTROLLER, GATEWAY, PROMETHEUS = 19511, 19512, 19513
GATEWAYS = 20
SWEEPS = ("pilotage_sweep_seconds", "pilotage_decisions", "pilotage_last_sweep_timestamp_seconds")
LIMITS = {"start_seconds": 30.0, "memory_mb": 250.0, "quiet_cores": 0.1, "quiet_writes": 0}
"""What is wanted at ten thousand."""


class Controller:
    """The process, and what it takes."""

    def __init__(self, kubeconfig: Path, log: Path) -> None:
        self.url = f"http://127.0.0.1:{CONTROLLER}"
        environment = os.environ | {
            "KUBECONFIG": str(kubeconfig), "POD_NAMESPACE": SYSTEM, "PILOTAGE_IMAGE": "image@sha256:1",
        }  # fmt: skip
        command = [
            str(Path(sys.executable).with_name("pilotage-controller")), "--kubernetes",
            "--listen", f"127.0.0.1:{CONTROLLER}", "--gateway", f"http://127.0.0.1:{GATEWAY}",
            "--prometheus", f"http://127.0.0.1:{PROMETHEUS}",
        ]  # fmt: skip
        self.log = log
        with log.open("w") as told:
            self.process = subprocess.Popen(command, env=environment, stdout=told, stderr=told)

    def cpu_seconds(self) -> float:
        """User and system time so far."""
        fields = Path(f"/proc/{self.process.pid}/stat").read_text().rsplit(")", 1)[1].split()
        return (int(fields[11]) + int(fields[12])) / os.sysconf("SC_CLK_TCK")

    def memory_mb(self, field: str = "VmRSS") -> float:
        """Resident memory now, or at most (VmHWM)."""
        found = re.search(rf"{field}:\s+(\d+) kB", Path(f"/proc/{self.process.pid}/status").read_text())
        assert found is not None
        return round(int(found[1]) / 1024, 1)

    async def sweeps(self, client: aiohttp.ClientSession) -> dict[str, float]:
        """Sweeps so far and what they took, and how many decisions there were."""
        query = [("name[]", f"{name}{end}") for name in SWEEPS for end in ("", "_sum", "_count", "_total")]
        async with client.get(f"{self.url}/metrics", params=query) as answer:
            lines = (await answer.text()).splitlines()
        pairs = (line.rsplit(" ", 1) for line in lines if line and not line.startswith("#"))
        return {name: float(value) for name, value in pairs if "{" not in name}

    def end(self) -> None:
        """Stop it."""
        self.process.send_signal(signal.SIGTERM)
        with contextlib.suppress(subprocess.TimeoutExpired):
            self.process.wait(15)
        self.process.kill()


def start_prometheus(folder: Path, scrape: str) -> subprocess.Popen[bytes]:
    """A Prometheus of its own, that scrapes the counters."""
    config = folder / "prometheus.yaml"
    config.write_text(
        f"global: {{scrape_interval: {scrape}, scrape_timeout: {scrape}}}\n"
        f"scrape_configs: [{{job_name: gateway, static_configs: [{{targets: ['127.0.0.1:{GATEWAY}']}}]}}]\n"
    )
    program = next(Path.home().glob(".cache/pilotage/bin/prometheus-v*"))
    command = [
        str(program), f"--config.file={config}", f"--storage.tsdb.path={folder / 'tsdb'}",
        f"--web.listen-address=127.0.0.1:{PROMETHEUS}", "--log.level=error",
    ]  # fmt: skip
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)


async def until(asks: Any, seconds: float, what: str) -> Any:
    """Ask again and again. Raises AssertionError where it takes longer."""
    limit = time.monotonic() + seconds
    while not (found := await asks()):
        assert time.monotonic() < limit, what
        await asyncio.sleep(0.02)
    return found


async def is_leading(controller: Controller, client: aiohttp.ClientSession) -> bool:
    """Whether it signs permits."""
    assert controller.process.poll() is None, "the controller ended"
    try:
        async with client.get(f"{controller.url}/readyz") as answer:
            return "leading" in await answer.text() and answer.status == 200
    except aiohttp.ClientError:
        return False


def count_writes() -> int:
    """Writes that the API server has answered, of what the controller writes; Leases aside."""
    text = kubectl("get", "--raw", "/metrics")
    found = re.findall(r"^apiserver_request_total\{([^}]*)\} (\S+)", text, re.M)
    wanted = ("pilotage.dev", "serving.kserve.io", "batch")
    return sum(
        int(float(value))
        for labels, value in found
        if re.search(r'verb="(APPLY|PATCH|POST|PUT|DELETE)"', labels)
        and any(f'group="{group}"' in labels for group in wanted)
    )


async def watch_sweeps(controller: Controller, client: aiohttp.ClientSession, seconds: float) -> dict[str, float | int]:
    """What the process takes in the next `seconds`, and then, asked all the time, what each sweep does."""
    before, cpu, began = await controller.sweeps(client), controller.cpu_seconds(), time.monotonic()
    await asyncio.sleep(seconds)
    cores = (controller.cpu_seconds() - cpu) / (time.monotonic() - began)
    last, walls, costs = await controller.sweeps(client), [], []
    used, began = controller.cpu_seconds(), time.monotonic()
    while time.monotonic() - began < seconds:
        await asyncio.sleep(0.1)
        now, spent = await controller.sweeps(client), controller.cpu_seconds()
        if now["pilotage_sweep_seconds_count"] == last["pilotage_sweep_seconds_count"] + 1:
            walls.append(now["pilotage_sweep_seconds_sum"] - last["pilotage_sweep_seconds_sum"])
            costs.append(spent - used)
        if now["pilotage_sweep_seconds_count"] != last["pilotage_sweep_seconds_count"]:
            last, used = now, spent
    assert walls, "no sweep was seen"
    return {
        "seconds": 2 * seconds,
        "cores": round(cores, 4),
        "sweeps": len(walls),
        "decided": int(last["pilotage_decisions_total"] - before["pilotage_decisions_total"]),
        "sweep_p50_seconds": round(statistics.median(walls), 4),
        "sweep_worst_seconds": round(max(walls), 4),
        "sweep_worst_cpu_seconds": round(max(costs), 3),
        "memory_mb": controller.memory_mb(),
    }


class Gateways:
    """Permit clients, and when each first held no unattended leave for a process cluster."""

    def __init__(self, keys: Path, token: Path) -> None:
        self.refused: dict[str, list[float]] = {}
        self.clients = []
        for _ in range(GATEWAYS):
            options: dict[str, Any] = {"remember_epoch": self._remember, "remember_parts": self._remember}
            url = f"http://127.0.0.1:{CONTROLLER}"
            self.clients.append(Permits(url, Keys(keys), token=token, on_leaves=self._note(set()), **options))

    async def _remember(self, *_: object) -> None:
        return

    def _note(self, seen: set[str]) -> Any:
        def note(leaves: list[Leave]) -> None:
            now = time.monotonic()
            for leave in leaves:
                if leave.stage in ("Logging", "Copilot") and leave.key not in seen:
                    seen.add(leave.key)
                    self.refused.setdefault(leave.key, []).append(now)

        return note


async def measure_breaches(fleet: Fleet, counting: Counting, folder: Path, n: int) -> dict[str, object]:
    """Breach `n` process clusters, four at a time, and time each."""
    keys = folder / "keys"
    keys.mkdir(exist_ok=True)
    published = json.loads(kubectl("get", "configmap", "pilotage-permit-keys", "-n", SYSTEM, "-o", "json"))
    for name, value in published["binaryData"].items():
        (keys / name).write_bytes(base64.b64decode(value))
    token = folder / "token"
    audience = ("--audience", "pilotage-controller", "--duration=3h")
    token.write_text(kubectl("create", "token", "pilotage-gateway", "-n", SYSTEM, *audience).strip())
    gateways = Gateways(keys, token)
    tasks = [asyncio.create_task(each.run()) for each in gateways.clients]

    async def all_have_leave() -> bool:
        return all(each.remaining_ms() > 0 for each in gateways.clients)

    await until(all_have_leave, 30, "a gateway has no leave")
    assert not gateways.refused, "something was held at Copilot before"
    chosen = random.Random(1).sample(fleet.keys, n)
    for start in range(0, n, 4):
        for key in chosen[start : start + 4]:
            counting.executed[key] += 60
            counting.corrections[key] += 50
            counting.awaited.add(key)
        await asyncio.sleep(1.3)

    async def all_refuse() -> bool:
        return all(len(gateways.refused.get(key, ())) == GATEWAYS for key in chosen)

    try:
        await until(all_refuse, 60, "a breach was not answered by every gateway")
    finally:
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
    took = sorted(max(gateways.refused[key]) - counting.scraped_at[key] for key in chosen)
    others = gateways.refused.keys() - set(chosen)
    assert not others, f"leave of others blinked: {sorted(others)[:5]}"
    return {
        "clusters": len(fleet.keys), "breaches": n, "gateways": GATEWAYS,
        "p50_seconds": round(took[n // 2], 3), "p99_seconds": round(took[min(n - 1, int(n * 0.99))], 3),
        "worst_seconds": round(took[-1], 3),
    }  # fmt: skip


async def measure(size: int, folder: Path, seconds: float, breaches: int, scrape: str) -> dict[str, object]:
    """One fleet, from nothing to nothing."""
    kubeconfig = install(folder)
    fleet, counting = Fleet(size, folder.name), None
    runner = prometheus = controller = None
    async with aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0)) as client:
        try:
            began = time.monotonic()
            admin = KubernetesApi(find_credentials(), client)
            os.environ["KUBECONFIG"], given = str(kubeconfig), os.environ["KUBECONFIG"]
            account = KubernetesApi(find_credentials(), client)
            os.environ["KUBECONFIG"] = given
            await fleet.create(admin, account)
            created = time.monotonic() - began
            counting = Counting(fleet.keys)
            runner = await counting.serve(GATEWAY)
            prometheus = start_prometheus(folder, scrape)

            async def has_series() -> bool:
                with contextlib.suppress(aiohttp.ClientError, msgspec.DecodeError):  # not up yet
                    found = await ask_prometheus(
                        client, f"http://127.0.0.1:{PROMETHEUS}",
                        "count(count_over_time(pilotage_executed_critical_total[5m]) >= 3)",
                    )  # fmt: skip
                    return bool(found) and found[0][1] == size
                return False

            await until(has_series, 180, "Prometheus has not scraped the fleet")
            controller, began = Controller(kubeconfig, folder / "log"), time.monotonic()
            # The first start waits until permits of an earlier controller have lapsed; what a restart takes is asked.
            await until(lambda: is_leading(controller, client), 120, "nobody leads")
            first = time.monotonic() - began
            controller.end()
            controller, began = Controller(kubeconfig, folder / "log"), time.monotonic()
            await until(lambda: is_leading(controller, client), 120, "nobody leads")
            result: dict[str, object] = {
                "clusters": size, "series": counting.series, "created_seconds": round(created, 1),
                "first_start_seconds": round(first, 1), "restart_seconds": round(time.monotonic() - began, 1),
            }  # fmt: skip
            await asyncio.sleep(20)
            stages = kubectl("get", "processclusters", "-A", "-o", "jsonpath={.items[*].status.stage}").split()
            result["automation"] = stages.count("Automation")
            assert result["automation"] == size, f"not all are in Automation: {sorted(set(stages))}"
            writes = count_writes()
            result["quiet"] = await watch_sweeps(controller, client, seconds) | {"writes": count_writes() - writes}
            if breaches:
                result["breach"] = await measure_breaches(fleet, counting, folder, breaches)
            else:
                result["busy"] = await _measure_busy(fleet, counting, controller, client, seconds)
            result["memory_peak_mb"] = controller.memory_mb("VmHWM")
            return result
        except AssertionError:
            if controller is not None:
                print("".join(controller.log.read_text().splitlines(keepends=True)[-30:]), file=sys.stderr)
            raise
        finally:
            if controller is not None:
                controller.end()
            if prometheus is not None:
                prometheus.kill()
            if runner is not None:
                await runner.cleanup()
            fleet.delete()


async def _measure_busy(
    fleet: Fleet, counting: Counting, controller: Controller, client: aiohttp.ClientSession, seconds: float
) -> dict[str, float | int]:
    """One in a hundred has something new in each scrape."""

    async def go_on() -> None:
        while True:
            for key in random.Random(time.monotonic()).sample(fleet.keys, max(1, len(fleet.keys) // 100)):
                counting.executed[key] += 1
            await asyncio.sleep(1)

    going = asyncio.create_task(go_on())
    try:
        return await watch_sweeps(controller, client, seconds)
    finally:
        going.cancel()


def main() -> None:
    """Measure, print, write."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--clusters", type=int, nargs="*", default=[100, 1000, 10_000])
    parser.add_argument("--breach-clusters", type=int, default=1000)
    parser.add_argument("--breaches", type=int, default=200, help="0: none")
    parser.add_argument("--seconds", type=float, default=60.0, help="how long each minute is")
    parser.add_argument("--output", type=Path, default=ROOT / "bench/results/controller.json")
    options = parser.parse_args()
    result = describe_run("aiohttp", "msgspec", "pydantic")
    result["limits_at_10000"] = LIMITS
    with tempfile.TemporaryDirectory() as made:
        folder = Path(made)
        for name in (*map(str, options.clusters), "breach"):
            (folder / name).mkdir()
        sizes: list[dict[str, object]] = []
        result["sizes"] = sizes
        for size in options.clusters:
            sizes.append(asyncio.run(measure(size, folder / str(size), options.seconds, 0, "15s")))
            options.output.write_text(json.dumps(result, indent=2) + "\n")
        if options.breaches:
            result["breach"] = asyncio.run(
                measure(options.breach_clusters, folder / "breach", 20.0, options.breaches, "1s")
            )
    options.output.write_text(json.dumps(result, indent=2) + "\n")
    print(json.dumps(result, indent=2))


if __name__ == "__main__":
    main()
