"""The main job as plain processes on loopback ports: gateway, controller, simulator; the controller runs the rest.

Nothing here decides about a process cluster: the same controller, gateway and simulator as on Kubernetes do.
"""

import os
import shutil
import signal
import socket
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from pilotage.demo.collect import collect_calibrations, collect_sessions, collect_status
from pilotage.demo.processes import Processes, end_stale
from pilotage.demo.world import Dialogues, Scene
from pilotage.run import object_key
from pilotage.services import ControllerApi, GatewayApi, is_answering, read_manifests, read_statuses
from pilotage_core.errors import PilotageError, UnavailableError
from pilotage_operator.public import find_process, stop_process

START_SECONDS = 20.0


class LocalWorld:
    """Processes of one run; their databases, keys and artefacts are in RUN/live."""

    mode = "local"
    linger_seconds = 3.0
    stays = False

    def __init__(self, run: Path, manifests: Path, plan: Path, people: int = 0) -> None:
        self._run = run
        self._live = run / "live"
        self._controller_folder = self._live / "controller"
        self._manifests = manifests
        self.plan = plan
        self._people = people
        self.stays = people > 0
        gateway_port, controller_port = free_ports(2)
        self.gateway_url = f"http://127.0.0.1:{gateway_port}"
        self.controller_url = f"http://127.0.0.1:{controller_port}"
        self._gateway = GatewayApi(self.gateway_url)
        self._controller = ControllerApi(self.controller_url)
        self._processes: Processes | None = None
        self._last = Scene()
        self._epoch = 0

    def start(self, dialogues: Dialogues) -> None:
        """Fresh folder, then controller, gateway and, once a permit is there, the simulator."""
        end_stale(self._live / "pids.json")
        self._end_children()
        shutil.rmtree(self._live, ignore_errors=True)
        (self._run / "ledger.jsonl").unlink(missing_ok=True)
        for name in ("gateway", "controller"):
            (self._live / name).mkdir(parents=True)
        processes = self._processes = Processes(self._live)
        processes.start("controller", self._controller_argv())
        processes.start("gateway", self._gateway_argv())
        processes.wait_for("the controller", self._controller.is_healthy, START_SECONDS, "controller")
        processes.wait_for("the gateway", self._gateway.is_ready, START_SECONDS, "gateway")
        processes.start("simulator", self._simulator_argv(dialogues), kept_running=False)

    def _controller_argv(self) -> list[str]:
        return [
            _program("pilotage-controller"), "--local", str(self._controller_folder),
            "--manifests", str(self._manifests), "--listen", _address(self.controller_url),
            "--gateway", self.gateway_url, "--sweep-seconds", "0.5",
        ]  # fmt: skip

    def _gateway_argv(self) -> list[str]:
        return [
            _program("pilotage-gateway"), "--listen", _address(self.gateway_url),
            "--database", f"sqlite:///{(self._live / 'gateway' / 'gateway.db').absolute()}",
            "--controller", self.controller_url, "--keys", str(self._controller_folder / "keys"),
        ]  # fmt: skip

    def _simulator_argv(self, dialogues: Dialogues) -> list[str]:
        return [
            _program("pilotage-simulate"), "run", "--gateway", self.gateway_url, "--controller", self.controller_url,
            "--plan", str(self.plan), "--ledger", str(self._run / "ledger.jsonl"),
            *(["--people", str(self._people)] if self._people else []), *dialogues.options,
        ]  # fmt: skip

    def observe(self) -> Scene:
        """Keep everything running, and look. A part that does not answer leaves the last look standing."""
        processes = self._running()
        processes.watch()
        code = processes.exit_code("simulator")
        failure = f"the simulator ended with {code}:\n{processes.log_tail('simulator')}" if code else ""
        trouble = ""
        items = tuple(read_statuses(self._controller_folder))
        live, executed = self._last.live_sessions, self._last.executed
        try:
            live = self._gateway.status().live_sessions
            executed = self._gateway.total("pilotage_executed_critical_total")
        except PilotageError as error:
            trouble = f"gateway: {error.what}"
        self._last = Scene(
            process_clusters=items,
            sessions={object_key(item): _closed(item) for item in items},
            live_sessions=live,
            executed=executed,
            playing=code is None,
            trouble=trouble,
            failure=failure,
        )
        return self._last

    def parts(self) -> Sequence[str]:
        """Prometheus has no part in the local run: the controller reads the gateway's figures itself."""
        return ("controller", "gateway", "model server")

    def kill(self, part: str) -> str:
        """SIGKILL by recorded id."""
        if part == "model server":
            servers = self._model_servers()
            if not servers:
                raise UnavailableError("no model server is running")
            name, pid = servers[0]
            os.killpg(pid, signal.SIGKILL)
            return f"{name} (process {pid})"
        pid = self._running().pid(part)
        self._epoch = self._permit_epoch()
        self._running().kill(part)
        return f"process {pid}"

    def is_back(self, part: str) -> bool:
        """A controller is back when its permits (of a higher epoch) are; the others when they answer."""
        if part == "controller":
            return self._controller.is_healthy() and self._permit_epoch() > self._epoch
        if part == "gateway":
            return self._gateway.is_ready() and self._permit_epoch() > 0
        served = [item["status"]["pair"] for item in self._last.process_clusters if item["status"].get("pair")]
        urls = [pair[name] for pair in served for name in ("policyUrl", "criticUrl") if pair.get(name)]
        return bool(urls) and all(is_answering(f"{url}/health") for url in urls)

    def stop_playing(self) -> None:
        """Let the sessions that have begun end."""
        processes = self._running()
        if processes.exit_code("simulator") is None:
            processes.end("simulator")

    def collect(self, run: Path) -> None:
        """Status, sessions, curves; the ledger is there already."""
        items = read_statuses(self._controller_folder)
        collect_status(run, items, read_manifests(self._manifests, "AutomationGate"))
        collect_sessions(run, self._gateway, items)
        collect_calibrations(run, self._controller_folder / "artefacts")

    def end(self) -> None:
        """End every process this run started, and what the controller left."""
        if self._processes is not None:
            self._processes.end_all()
            self._end_children()

    def _running(self) -> Processes:
        if self._processes is None:
            raise UnavailableError("the demo has not been started")
        return self._processes

    def _model_servers(self) -> list[tuple[str, int]]:
        """Names and process ids of the model servers that run."""
        found = ((folder, find_process(folder)) for folder in sorted(self._controller_folder.glob("servers/*/*")))
        return [(folder.name, process.record.pid) for folder, process in found if process and process.running]

    def _end_children(self) -> None:
        """End the Jobs and servers that a controller left when it was killed."""
        for folder in [*self._controller_folder.glob("jobs/*/*"), *self._controller_folder.glob("servers/*/*")]:
            process = find_process(folder)
            if process is not None:
                stop_process(process)

    def _permit_epoch(self) -> int:
        """The epoch of the permit the gateway holds; 0 where it holds none or does not answer."""
        try:
            status = self._gateway.status()
        except PilotageError:
            return 0  # it is down, which is an answer here
        return status.epoch if status.permit_remaining_ms > 0 else 0


def free_ports(count: int) -> list[int]:
    """Loopback ports nobody listens on at the moment."""
    sockets = [socket.socket() for _ in range(count)]
    for one in sockets:
        one.bind(("127.0.0.1", 0))
    ports = [int(one.getsockname()[1]) for one in sockets]
    for one in sockets:
        one.close()
    return ports


def _closed(item: dict[str, Any]) -> int:
    return int(((item.get("status") or {}).get("supervision") or {}).get("sessions", 0))


def _address(url: str) -> str:
    return url.removeprefix("http://")


def _program(name: str) -> str:
    """The command installed beside this Python, wherever PATH points."""
    return str(Path(sys.executable).with_name(name))
