"""A fleet for bench/controller.py: process clusters in Automation on a real API server, and a gateway that counts.

Objects are examples/star's, a thousand times over; statuses are what a controller writes, by its own account. Model
servers are there and Ready, with nothing behind them: KServe's controller is put to sleep meanwhile.
"""

import asyncio
import json
import math
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import aiohttp
import msgspec
import yaml
from aiohttp import web

ROOT = Path(__file__).resolve().parents[1]
sys.path.insert(0, str(ROOT / "tests/unit/operator_"))

from facts import MemoryWorld, healthy  # noqa: E402

from pilotage_core.guardrail import Reading  # noqa: E402
from pilotage_operator.api.fields import API_VERSION, GROUP, VERSION  # noqa: E402
from pilotage_operator.apply.kubernetes import APPLIED, digest_of  # noqa: E402
from pilotage_operator.facts import Bundle, JobPhase, WantedEndpoint  # noqa: E402
from pilotage_operator.kubernetes_api import KubernetesApi  # noqa: E402
from pilotage_operator.manifests.inference_service import build_inference_service  # noqa: E402
from pilotage_operator.observe.bundle import build_bundle  # noqa: E402
from pilotage_operator.observe.manifests import read_manifests  # noqa: E402

IMAGE = "image@sha256:1"
NAMESPACES = 50
AT_ONCE = 48
SESSIONS, EXECUTED, REVIEWED = 10_000, 400, 200
SYSTEM = "pilotage-system"
CUSTOM = f"/apis/{GROUP}/{VERSION}"
SERVICES = "/apis/serving.kserve.io/v1beta1"
Object = dict[str, Any]


def kubectl(*arguments: str, stdin: str | None = None) -> str:
    """kubectl on the cluster of KUBECONFIG. Raises CalledProcessError."""
    done = subprocess.run(["kubectl", *arguments], input=stdin, text=True, capture_output=True, check=True)
    return done.stdout


def install(folder: Path) -> Path:
    """Definitions, rights and admission as an installation has them. Gives a KUBECONFIG of the controller's account."""
    config = ROOT / "config/default"
    kubectl("apply", "--server-side", "--force-conflicts", "-k", str(ROOT / "crds"))
    for name in ("namespace", "rbac", "admission"):
        kubectl("apply", "-f", str(config / f"{name}.yaml"))
    for name in ("pilotage-controller", "pilotage-gateway"):
        made = kubectl("create", "serviceaccount", name, "-n", SYSTEM, "--dry-run=client", "-o", "yaml")
        kubectl("apply", "-f", "-", stdin=made)
    rest_kserve(rests=True)
    token = kubectl("create", "token", "pilotage-controller", "-n", SYSTEM, "--duration=3h").strip()
    found = yaml.safe_load(Path(os.environ["KUBECONFIG"]).read_text())
    found["users"] = [{"name": user["name"], "user": {"token": token}} for user in found["users"]]
    path = folder / "kubeconfig"
    path.write_text(yaml.safe_dump(found))
    return path


def rest_kserve(*, rests: bool) -> None:
    """Put KServe's controller to sleep, or wake it: a Deployment where kind runs it, else a process beside the node."""
    if kubectl("get", "deployment", "-n", "kserve", "-o", "name", "--ignore-not-found"):
        kubectl("scale", "deployment", "-n", "kserve", "--all", f"--replicas={0 if rests else 1}")
        return
    found = subprocess.run(["pgrep", "-f", "bin/kserve-manager-"], text=True, capture_output=True, check=False)
    for process in found.stdout.split():
        os.kill(int(process), signal.SIGSTOP if rests else signal.SIGCONT)


class Fleet:
    """`size` process clusters, spread over namespaces that share their screens; `name` is part of the namespaces'."""

    def __init__(self, size: int, name: str) -> None:
        self.names = [(f"fleet-{name}-{n % NAMESPACES:02d}", f"n{n:05d}") for n in range(size)]
        self.keys = [f"{namespace}/{name}" for namespace, name in self.names]
        self._objects = read_manifests(ROOT / "examples/star")
        self._status = self._climb()

    def _climb(self) -> str:
        cluster = self._objects["ProcessCluster", "star", "information"]
        metadata = cluster["metadata"] | {"uid": "u"}
        world = MemoryWorld(build_bundle({"metadata": metadata, "spec": cluster["spec"]}, self._objects, IMAGE))
        world.count(sessions=SESSIONS, demonstrations=SESSIONS)
        world.steps(14)
        world.count(feedback_sessions=SESSIONS)
        world.steps(12)
        world.count_pair("r1", calibration_sessions=SESSIONS, reviewed=REVIEWED, executed=EXECUTED)
        names, alarm = ("corrective-interventions", "finalization-rejections"), "precision-alarm"
        world.steps(4, readings=dict.fromkeys(names, healthy()["corrections"]) | {alarm: Reading(0.0, 40)})
        world.steps(2, readings=dict.fromkeys(names, Reading(math.nan, 0)) | {alarm: Reading(0.0, 0)})
        if world.status.stage != "Automation":
            raise AssertionError(f"{world.stages}: {world.status.unmet}")
        return json.dumps(world.status.to_json())

    async def create(self, api: KubernetesApi, controller: KubernetesApi) -> None:
        """Everything, as a fleet that has been at work: `controller` writes statuses."""
        for namespace in sorted({namespace for namespace, _ in self.names}):
            await api.create("/api/v1/namespaces", {"metadata": {"name": namespace}})
            screens = self._objects["ConfigMap", "star", "star-screens"]
            item = {"metadata": {"name": "star-screens", "namespace": namespace}, "data": screens["data"]}
            await api.create(f"/api/v1/namespaces/{namespace}/configmaps", item)
        slots = asyncio.Semaphore(AT_ONCE)

        async def one(namespace: str, name: str) -> None:
            async with slots:
                await self._create_one(api, controller, namespace, name)

        await asyncio.gather(*(one(*each) for each in self.names))

    async def _create_one(self, api: KubernetesApi, controller: KubernetesApi, namespace: str, name: str) -> None:
        kinds = (("AutomationGate", "star"), ("PolicyCritic", "information"))
        for kind, of in kinds:
            spec = self._objects[kind, "star", of]["spec"]
            await _make(api, namespace, kind, name, spec)
        spec = dict(self._objects["ProcessCluster", "star", "information"]["spec"])
        spec |= {"policyCriticRef": {"name": name}, "gateRef": {"name": name}}
        spec["selector"] = [{"key": "fleet", "operator": "In", "values": [name]}]
        made = await _make(api, namespace, "ProcessCluster", name, spec)
        metadata = made["metadata"]
        objects = dict(self._objects) | {
            (kind, namespace, name): self._objects[kind, "star", of] for kind, of in kinds
        } | {("ConfigMap", namespace, "star-screens"): self._objects["ConfigMap", "star", "star-screens"]}  # fmt: skip
        bundle = build_bundle(made, objects, IMAGE)
        for phase in (JobPhase.POLICY, JobPhase.CRITIC):
            await self._create_server(api, bundle, WantedEndpoint(f"{name}-r1-{phase}", phase, "r1"))
        status = self._status.replace("information-r1", f"{name}-r1").replace("star/", f"{namespace}/")
        item = {
            "apiVersion": API_VERSION, "kind": "ProcessCluster", "status": json.loads(status),
            "metadata": {key: metadata[key] for key in ("name", "namespace", "uid")},
        }  # fmt: skip
        await controller.apply(f"{CUSTOM}/namespaces/{namespace}/processclusters/{name}/status", item)

    async def _create_server(self, api: KubernetesApi, bundle: Bundle, endpoint: WantedEndpoint) -> None:
        item = build_inference_service(bundle, endpoint, image=IMAGE)
        item["metadata"]["annotations"][APPLIED] = digest_of(item)
        path = f"{SERVICES}/namespaces/{bundle.namespace}/inferenceservices"
        await api.apply(f"{path}/{endpoint.name}", item)
        ready = {"conditions": [{"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}]}
        told = {key: item[key] for key in ("apiVersion", "kind")} | {
            "metadata": {"name": endpoint.name, "namespace": bundle.namespace}, "status": ready,
        }  # fmt: skip
        await api.apply(f"{path}/{endpoint.name}/status", told, "kserve")

    def delete(self) -> None:
        """Take everything away again, and wake KServe's controller."""
        namespaces = sorted({namespace for namespace, _ in self.names})
        kubectl("delete", "namespace", *namespaces, "--wait=false", "--ignore-not-found")
        rest_kserve(rests=False)


async def _make(api: KubernetesApi, namespace: str, kind: str, name: str, spec: Object) -> Object:
    plural = {"AutomationGate": "automationgates", "PolicyCritic": "policycritics"}.get(kind, "processclusters")
    item = {"apiVersion": API_VERSION, "kind": kind, "metadata": {"name": name, "namespace": namespace}, "spec": spec}
    made = await api.apply(f"{CUSTOM}/namespaces/{namespace}/{plural}/{name}", item, "bench")
    if made is None:
        raise AssertionError(f"{kind} {namespace}/{name} was not made")
    return made


class Counting:
    """A gateway's counters for the fleet, and its labels, of which there are none."""

    def __init__(self, keys: list[str]) -> None:
        self.executed = dict.fromkeys(keys, EXECUTED)
        self.corrections = dict.fromkeys(keys, 0)
        self.series = 0
        self.awaited: set[str] = set()
        self.scraped_at: dict[str, float] = {}

    def expose(self) -> bytes:
        """All of it in the text format. What is awaited in it is noted: from now on Prometheus can show it."""
        self.scraped_at |= dict.fromkeys(self.awaited, time.monotonic())
        self.awaited.clear()
        lines = ["pilotage_permit_epoch 1"]
        for key, executed in self.executed.items():
            of = f'process_cluster="{key}",pair="r1"'
            none = f'process_cluster="{key}",pair=""'
            lines += (
                f'pilotage_sessions_closed_total{{{none},stage="Logging"}} 0',
                f'pilotage_sessions_closed_total{{{of},stage="Automation"}} {SESSIONS}',
                f'pilotage_demonstration_sessions_total{{process_cluster="{key}"}} {SESSIONS}',
                f"pilotage_feedback_sessions_total{{{of}}} {SESSIONS}",
                f"pilotage_finalizations_reviewed_total{{{of}}} {REVIEWED}",
                f"pilotage_finalizations_rejected_total{{{of}}} 0",
                f"pilotage_executed_critical_total{{{of}}} {executed}",
                f"pilotage_corrections_total{{{of}}} {self.corrections[key]}",
                f"pilotage_sessions_unasked_total{{{of}}} 0",
                f"pilotage_sessions_unasked_wrong_total{{{of}}} 0",
            )
        self.series = len(lines)
        return "\n".join([*lines, ""]).encode()

    async def serve(self, port: int) -> web.AppRunner:
        """Answer scrapes and the controller until the runner is cleaned up."""

        async def metrics(request: web.Request) -> web.Response:
            return web.Response(body=self.expose(), content_type="text/plain", charset="utf-8")

        async def labels(request: web.Request) -> web.Response:
            return web.Response(body=b'{"next":0,"labels":[]}', content_type="application/json")

        app = web.Application()
        app.router.add_get("/metrics", metrics)
        app.router.add_get("/v1/labels", labels)
        runner = web.AppRunner(app, access_log=None)
        await runner.setup()
        await web.TCPSite(runner, "127.0.0.1", port).start()
        return runner


async def ask_prometheus(client: aiohttp.ClientSession, url: str, query: str) -> list[tuple[dict[str, str], float]]:
    """An instant vector: labels and value of each series."""
    async with client.post(f"{url}/api/v1/query", data={"query": query}) as answer:
        body = msgspec.json.decode(await answer.read())
    return [(item["metric"], float(item["value"][1])) for item in body["data"]["result"]]
