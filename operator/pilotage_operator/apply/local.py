"""Kubernetes' part played by local processes and files, under one folder.

DIR/status/<namespace>/<name>.json   ProcessCluster with its status, replaced whole by rename
DIR/jobs/<namespace>/<job>/          one training Job: log, result.json, exit
DIR/servers/<namespace>/<endpoint>/  one model server: log
DIR/artefacts/                       what Jobs write and servers read
DIR/keys/                            signing.key, <kid>.pub      DIR/epoch
"""

import asyncio
import shutil
import socket
import time
from pathlib import Path

import aiohttp
import msgspec

from pilotage_core.errors import UnavailableError
from pilotage_core.wire import read_result
from pilotage_operator.api.reading import Lookup, Object
from pilotage_operator.api.status import ProcessClusterStatus
from pilotage_operator.apply.processes import Process, find_process, start_process, stop_process
from pilotage_operator.decide.telling import Happening
from pilotage_operator.facts import Bundle, EndpointFact, JobFact, JobState, LifecycleDecision, WantedEndpoint
from pilotage_operator.files import write_file
from pilotage_operator.manifests.inference_service import build_serve_command
from pilotage_operator.manifests.job import build_train_command, count_threads
from pilotage_operator.observe.manifests import list_files, read_manifests
from pilotage_operator.observe.world import Sighting, Workloads

PROBE_TIMEOUT = aiohttp.ClientTimeout(total=1.0)
RESTART_SECONDS = 2.0


class LocalWorld:
    """The world of `pilotage-controller --local`. `gateway` is where Jobs export sessions from."""

    serving_image = "local"

    def __init__(self, folder: Path, manifests: Path, gateway: str, client: aiohttp.ClientSession) -> None:
        self._folder = folder.resolve()
        self._manifests = manifests
        self._gateway = gateway
        self._client = client
        self._objects: Lookup = {}
        self._files: list[Path] = []
        self._stamp: tuple[tuple[str, int], ...] = ()
        self._endpoints: dict[str, dict[str, EndpointFact]] = {}
        self._since: dict[str, tuple[bool, float]] = {}
        (self._folder / "artefacts").mkdir(parents=True, exist_ok=True)

    # --- observe -----------------------------------------------------------------------------------------------------
    async def observe_world(self) -> Sighting:
        """Manifests as they are now, statuses as last written, Jobs and servers as they run."""
        self._read_manifests()
        clusters = {}
        for (kind, namespace, name), item in self._objects.items():
            if kind == "ProcessCluster":
                stored = self._status_path(namespace, name)
                status = msgspec.json.decode(stored.read_bytes()).get("status", {}) if stored.exists() else {}
                clusters[f"{namespace}/{name}"] = item | {"status": status}
        self._endpoints = await self._observe_servers()
        return Sighting(clusters, self._objects)

    async def observe_workloads(self, namespace: str, name: str, job: str) -> Workloads:
        """Jobs and servers of the namespace, as the last look at the world found servers."""
        return Workloads(self._observe_jobs(namespace), self._endpoints.get(namespace, {}))

    def _read_manifests(self) -> None:
        try:
            stamp = tuple((str(path), path.stat().st_mtime_ns) for path in self._files)
        except OSError:
            stamp = ()  # one of them is gone: read_manifests says which
        if stamp != self._stamp or not self._files:
            self._objects, self._files = read_manifests(self._manifests), list_files(self._manifests)
            self._stamp = tuple((str(path), path.stat().st_mtime_ns) for path in self._files)

    def _observe_jobs(self, namespace: str) -> dict[str, JobFact]:
        found = ((folder.name, find_process(folder)) for folder in sorted(self._folder.glob(f"jobs/{namespace}/*")))
        return {name: read_job(process) for name, process in found if process is not None}

    async def _observe_servers(self) -> dict[str, dict[str, EndpointFact]]:
        folders = sorted(self._folder.glob("servers/*/*"))
        facts = await asyncio.gather(*(self._observe_server(folder) for folder in folders))
        endpoints: dict[str, dict[str, EndpointFact]] = {}
        for folder, fact in zip(folders, facts, strict=True):
            if fact is not None:
                endpoints.setdefault(folder.parent.name, {})[folder.name] = fact
        return endpoints

    async def _observe_server(self, folder: Path) -> EndpointFact | None:
        process = find_process(folder)
        if process is None:
            return None
        url = f"http://127.0.0.1:{process.record.port}"
        ready, reason = False, "not running"
        if process.running:
            try:
                async with self._client.get(f"{url}/health", timeout=PROBE_TIMEOUT) as response:
                    ready, reason = response.status == 200, f"health: HTTP {response.status}"
            except (aiohttp.ClientError, TimeoutError) as error:
                reason = f"health: {type(error).__name__}"
        was, since = self._since.get(str(folder), (not ready, 0.0))
        if was is not ready:
            since = time.time()
        self._since[str(folder)] = (ready, since)
        return EndpointFact(ready, url, "" if ready else reason, since)

    # --- apply -------------------------------------------------------------------------------------------------------
    async def apply_workloads(self, bundle: Bundle, decision: LifecycleDecision) -> None:
        """Start Jobs that were never started, keep wanted servers up, end the others of this process cluster."""
        for job in decision.jobs:
            folder = self._folder / "jobs" / bundle.namespace / job.name
            if find_process(folder) is None:
                out, result = str(self._folder / "artefacts"), str(folder / "result.json")
                command = build_train_command(bundle, job, export=self._gateway, out=out, result=result)
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "owner").write_text(bundle.name)
                self._start(folder, command, threads=count_threads(bundle, job.phase))
        for endpoint in decision.endpoints:
            self._keep_server(bundle, endpoint)
        self._remove_ended(bundle, decision)
        self._retire(bundle, {endpoint.name for endpoint in decision.endpoints} | decision.kept_endpoints)

    def _keep_server(self, bundle: Bundle, endpoint: WantedEndpoint) -> None:
        folder = self._folder / "servers" / bundle.namespace / endpoint.name
        process = find_process(folder)
        if process is not None and process.running:
            return
        if process is not None and time.time() - (folder / "process.json").stat().st_mtime < RESTART_SECONDS:
            return
        # A server that comes back keeps its port: gateways have it in their snapshot.
        port = process.record.port if process is not None else find_free_port()
        artefacts = str(self._folder / "artefacts")
        command = build_serve_command(bundle, endpoint, artefacts=artefacts, listen=f"127.0.0.1:{port}")
        folder.mkdir(parents=True, exist_ok=True)
        (folder / "owner").write_text(bundle.name)
        self._start(folder, command, port)

    def _remove_ended(self, bundle: Bundle, decision: LifecycleDecision) -> None:
        """What ended Jobs of this process cluster left to be read has been read: only the last one is kept."""
        for folder in self._folder.glob(f"jobs/{bundle.namespace}/*"):
            owner = folder / "owner"
            if folder.name in decision.kept_jobs or not owner.exists() or owner.read_text() != bundle.name:
                continue
            process = find_process(folder)
            if process is not None and not process.running:
                shutil.rmtree(folder, ignore_errors=True)

    def _retire(self, bundle: Bundle, kept: set[str]) -> None:
        for folder in self._folder.glob(f"servers/{bundle.namespace}/*"):
            owner = folder / "owner"
            if folder.name not in kept and owner.exists() and owner.read_text() == bundle.name:
                process = find_process(folder)
                if process is not None:
                    stop_process(process)
                shutil.rmtree(folder, ignore_errors=True)

    def _start(self, folder: Path, command: list[str], port: int = 0, threads: int = 1) -> Process:
        try:
            return start_process(folder, command, port, threads)
        except OSError as error:
            raise UnavailableError(f"cannot be started: {error}", where=command[0]) from error

    async def tell_happening(self, cluster: Object, happening: Happening) -> None:
        """Nothing: the log tells."""

    async def apply_referred(self, kind: str, item: Object, status: Object) -> None:
        """Nothing: manifests here are files, and people's."""

    async def tell_quarantine(self, cluster: Object, fault: str) -> None:
        """Nothing: the log and the metrics tell, and the status is left as it is."""

    async def apply_status(self, cluster: Object, status: ProcessClusterStatus) -> None:
        """Replace the status file, if anything in it changed."""
        document = cluster | {"status": status.to_json()}
        path = self._status_path(cluster["metadata"]["namespace"], cluster["metadata"]["name"])
        data = msgspec.json.encode(document, order="sorted")
        try:
            if not path.exists() or path.read_bytes() != data:
                write_file(path, data)
        except OSError as error:
            raise UnavailableError(f"cannot be written: {error.strerror}", where=str(path)) from error

    def stop(self) -> None:
        """End everything that was started and still runs."""
        for folder in [*self._folder.glob("jobs/*/*"), *self._folder.glob("servers/*/*")]:
            process = find_process(folder)
            if process is not None:
                stop_process(process)

    def _status_path(self, namespace: str, name: str) -> Path:
        return self._folder / "status" / namespace / f"{name}.json"


def read_job(process: Process) -> JobFact:
    """A local Job: running, done with its result, or failed with its last words."""
    if process.running:
        return JobFact(JobState.RUNNING)
    if process.exit_code != 0:
        reason = process.log_tail or "killed"
        return JobFact(JobState.FAILED, exit_code=process.exit_code, reason=reason)
    path = process.folder / "result.json"
    try:
        result = read_result(path.read_bytes())
    except (OSError, ValueError) as error:
        return JobFact(JobState.FAILED, exit_code=0, reason=f"its result cannot be read: {error}")
    return JobFact(JobState.SUCCEEDED, result, 0)


def find_free_port() -> int:
    """A port nobody listens on now."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        port: int = listener.getsockname()[1]
        return port
