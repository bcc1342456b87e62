"""SIGKILL to a container's processes on a Kubernetes node, from a pod that sees the node's processes (hostPID).

`kubectl delete --force` would let a process say goodbye first. The container restarts in its pod, as after a crash.
"""

import json
from collections.abc import Callable

from pilotage_core.errors import UnavailableError

NAME, NAMESPACE = "pilotage-demo-killer", "pilotage-system"

KILL = """
import os, pathlib, signal, sys
uid = sys.argv[1]
for folder in pathlib.Path("/proc").iterdir():
    if folder.name.isdigit():
        try:
            mine = (folder / "cgroup").read_text().replace("_", "-")
            if uid in mine and (folder / "comm").read_text().strip() != "pause":
                os.kill(int(folder.name), signal.SIGKILL)
                print(folder.name)
        except (FileNotFoundError, ProcessLookupError):
            pass
"""

Kubectl = Callable[..., str]


def start_killer(kubectl: Kubectl) -> None:
    """Bring up the pod, with the image that the controller runs, and wait until it is Ready."""
    image = kubectl(
        "get", "deployment", "pilotage-controller", "-n", NAMESPACE, "-o",
        "jsonpath={.spec.template.spec.containers[0].image}",
    )  # fmt: skip
    container = {
        "name": NAME, "image": image, "imagePullPolicy": "IfNotPresent", "command": ["sleep", "3600"],
        "securityContext": {"runAsUser": 0, "privileged": True},
    }  # fmt: skip
    spec = {"hostPID": True, "terminationGracePeriodSeconds": 0, "containers": [container]}
    stop_killer(kubectl)
    kubectl(
        "run", NAME, "-n", NAMESPACE, "--image", image, "--restart=Never", "--overrides", json.dumps({"spec": spec})
    )
    kubectl("wait", "pod", NAME, "-n", NAMESPACE, "--for=condition=Ready", "--timeout=25s")


def kill_pod_processes(kubectl: Kubectl, namespace: str, pod: str) -> str:
    """SIGKILL everything that runs in a pod; the process ids, as the node counts them."""
    uid = kubectl("get", "pod", pod, "-n", namespace, "-o", "jsonpath={.metadata.uid}")
    killed = kubectl("exec", "-n", NAMESPACE, NAME, "--", "python3", "-c", KILL, uid).split()
    if not killed:
        raise UnavailableError("none of its processes was found on the node", where=f"{namespace}/{pod}")
    return ", ".join(killed)


def stop_killer(kubectl: Kubectl) -> None:
    """Take the pod away."""
    kubectl("delete", "pod", NAME, "-n", NAMESPACE, "--ignore-not-found", "--grace-period=0", "--force")
