"""The main job on Kubernetes: Pilotage is installed and the example applied already (hack/demo/kubernetes.sh); the
simulator plays from this machine against the gateway's NodePort. Kubernetes restarts what is killed.
"""

import io
import subprocess
import sys
import tarfile
import tempfile
from collections.abc import Sequence
from pathlib import Path

from pilotage.demo.collect import collect_calibrations, collect_sessions, collect_status
from pilotage.demo.killer import kill_pod_processes, start_killer, stop_killer
from pilotage.demo.processes import Processes, end_stale
from pilotage.demo.world import Dialogues, Scene
from pilotage.run import object_key
from pilotage.services import CONTROLLER_SERVICE, GATEWAY_SERVICE, SYSTEM_NAMESPACE, ApiObject, GatewayApi, Kubernetes
from pilotage_core.errors import PilotageError, UnavailableError

KUBECTL_SECONDS = 30.0
TOKEN = Path("out/demo/bpm.token")
"""The credential of the simulated BPM, made with the installation (hack/demo/kubernetes.sh)."""
READY_SECONDS = 60.0


class KubernetesWorld:
    """The current context, with the simulator as a process here."""

    mode = "kubernetes"
    linger_seconds = 90.0
    stays = False

    def __init__(self, run: Path, plan: Path) -> None:
        self._run = run
        self.plan = plan
        self._kubernetes = Kubernetes()
        self.gateway_url = self._kubernetes.node_port_url(GATEWAY_SERVICE)
        self.controller_url = self._kubernetes.node_port_url(CONTROLLER_SERVICE)
        self._gateway = GatewayApi(self.gateway_url, self._kubernetes.reading_token)
        self._processes: Processes | None = None
        self._last = Scene()
        self._killed: dict[str, tuple[str, int]] = {}
        self._has_killer = False

    def start(self, dialogues: Dialogues) -> None:
        """Wait for the gateway, and let the simulator play."""
        live = self._run / "live"
        end_stale(live / "pids.json")
        (self._run / "ledger.jsonl").unlink(missing_ok=True)
        processes = self._processes = Processes(live)
        processes.wait_for("the gateway", self._gateway.is_ready, READY_SECONDS, "gateway")
        argv = [
            str(Path(sys.executable).with_name("pilotage-simulate")), "run", "--gateway", self.gateway_url,
            "--controller", self.controller_url, "--plan", str(self.plan),
            "--ledger", str(self._run / "ledger.jsonl"), "--token", str(TOKEN), *dialogues.options,
        ]  # fmt: skip
        processes.start("simulator", argv, kept_running=False)

    def observe(self) -> Scene:
        """Look. What does not answer leaves the last look standing."""
        processes = self._running()
        processes.watch()
        code = processes.exit_code("simulator")
        failure = f"the simulator ended with {code}:\n{processes.log_tail('simulator')}" if code else ""
        items, live, executed, trouble = self._last.process_clusters, 0, self._last.executed, ""
        try:
            items = tuple(self._kubernetes.process_clusters())
            live = self._gateway.status().live_sessions
            executed = self._gateway.total("pilotage_executed_critical_total")
        except PilotageError as error:
            trouble = str(error).splitlines()[0]
        closed = {object_key(item): _closed(item) for item in items}
        self._last = Scene(items, closed, live, executed, code is None, trouble, failure)
        return self._last

    def parts(self) -> Sequence[str]:
        """What `make demo-faults` kills."""
        return ("controller", "gateway", "prometheus", "model server")

    def kill(self, part: str) -> str:
        """SIGKILL everything in the part's pod, as the node sees it crash. Its container restarts."""
        namespace, pod, restarts, _ = self._pod_of(part)
        if not self._has_killer:
            start_killer(_kubectl)
            self._has_killer = True
        self._killed[part] = (pod, restarts)
        return f"{pod}, processes {kill_pod_processes(_kubectl, namespace, pod)} of the node"

    def is_back(self, part: str) -> bool:
        """Whether its container was started again, or another pod leads, and is Ready; and permits flow."""
        try:
            _, pod, restarts, ready = self._pod_of(part)
            killed, before = self._killed[part]
            again = pod != killed or restarts > before
            return ready and again and self._gateway.status().permit_remaining_ms > 0
        except PilotageError:
            return False  # not back is what is asked here

    def _pod_of(self, part: str) -> tuple[str, str, int, bool]:
        """Namespace and name of a part's pod, how often its container was restarted, whether it is Ready."""
        namespace, selector = _where(part, self._last.process_clusters)
        chosen = ["--field-selector", f"metadata.name={_find_leader()}"] if part == "controller" else []
        path = "{.items[0].metadata.name} {.items[0].status.containerStatuses[0]['restartCount','ready']}"
        said = _kubectl("get", "pods", "-n", namespace, "-l", selector, *chosen, "-o", f"jsonpath={path}").split()
        if len(said) != 3:
            raise UnavailableError(f"no pod of {part} is running", where=selector)
        return namespace, said[0], int(said[1]), said[2] == "true"

    def stop_playing(self) -> None:
        """Let the sessions that have begun end."""
        processes = self._running()
        if processes.exit_code("simulator") is None:
            processes.end("simulator")

    def collect(self, run: Path) -> None:
        """Status and sessions; curves from the volume the Jobs write to, through a model server that mounts it."""
        items = self._kubernetes.process_clusters()
        collect_status(run, items, self._kubernetes.list_objects("automationgates"))
        collect_sessions(run, self._gateway, items)
        _copy_calibrations(run, items)

    def end(self) -> None:
        """End the processes here. The Kubernetes stays up: `make clean` takes it away."""
        if self._processes is not None:
            self._processes.end_all()
        if self._has_killer:
            stop_killer(_kubectl)

    def _running(self) -> Processes:
        if self._processes is None:
            raise UnavailableError("the demo has not been started")
        return self._processes


def _find_leader() -> str:
    """The pod of the controller that leads, or led last."""
    path = "jsonpath={.spec.holderIdentity}"
    return _kubectl("get", "lease", "pilotage-controller", "-n", SYSTEM_NAMESPACE, "-o", path).rpartition("_")[0]


def _closed(item: ApiObject) -> int:
    return int(((item.get("status") or {}).get("supervision") or {}).get("sessions", 0))


def _where(part: str, items: Sequence[ApiObject]) -> tuple[str, str]:
    """Namespace and label selector of a part's pods."""
    if part == "prometheus":
        return "monitoring", "app.kubernetes.io/name=prometheus"
    if part != "model server":
        return SYSTEM_NAMESPACE, f"app.kubernetes.io/name=pilotage-{part}"
    served = [item for item in items if (item.get("status") or {}).get("pair")]
    if not served:
        raise UnavailableError("no model is served yet")
    endpoint = served[0]["status"]["pair"]["policyEndpoint"]
    return served[0]["metadata"]["namespace"], f"serving.kserve.io/inferenceservice={endpoint}"


def _copy_calibrations(run: Path, items: Sequence[ApiObject]) -> None:
    """Stream results and curves out of a pod that mounts the artefacts, and unpack them."""
    namespace, selector = _where("model server", items)
    pods = _kubectl("get", "pods", "-n", namespace, "-l", selector, "-o", "jsonpath={.items[*].metadata.name}").split()
    if not pods:
        raise UnavailableError("no model server runs that could show the artefacts", where=selector)
    pack = (
        "import glob,sys,tarfile;t=tarfile.open(fileobj=sys.stdout.buffer,mode='w|')\n"
        "for p in glob.glob('*/*/*/calibration/*.json',root_dir='/artefacts'): t.add('/artefacts/'+p,arcname=p)\n"
        "t.close()"
    )
    packed = _run(["kubectl", "exec", "-n", namespace, pods[0], "--", "python3", "-c", pack])
    with tempfile.TemporaryDirectory() as folder, tarfile.open(fileobj=io.BytesIO(packed), mode="r|") as archive:
        archive.extractall(folder, filter="data")
        collect_calibrations(run, Path(folder))


def _kubectl(*arguments: str) -> str:
    return _run(["kubectl", *arguments]).decode()


def _run(argv: Sequence[str]) -> bytes:
    try:
        return subprocess.run(argv, check=True, capture_output=True, timeout=KUBECTL_SECONDS).stdout
    except FileNotFoundError as error:
        raise UnavailableError("kubectl is not on PATH", remedy='eval "$(hack/cluster/up.sh)"') from error
    except subprocess.TimeoutExpired as error:
        raise UnavailableError(f"no answer in {KUBECTL_SECONDS:g} s", where=" ".join(argv[:6])) from error
    except subprocess.CalledProcessError as error:
        raise UnavailableError(error.stderr.decode(errors="replace").strip(), where=" ".join(argv[:6])) from error
