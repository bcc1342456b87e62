"""What every contract test of admission starts from: the good example's objects, changed one field at a time."""

import copy
import os
import subprocess
from pathlib import Path
from typing import Any

import yaml

ROOT = Path(__file__).parents[2]
EXAMPLE = ROOT / "examples" / "star"
INSTALLATION = ROOT / "config" / "default"
FILES = {
    "ProcessCluster": "process-clusters.yaml",
    "PolicyCritic": "policy-critics.yaml",
    "AutomationGate": "gate.yaml",
}
Object = dict[str, Any]


def read_example(kind: str) -> Object:
    """The example's first object of `kind`."""
    return next(item for item in yaml.safe_load_all((EXAMPLE / FILES[kind]).read_text()) if item["kind"] == kind)


def change(item: Object, path: str, value: object) -> Object:
    """A copy of `item` with the field at `path` (dots; numbers index lists) set to `value`; None removes it."""
    changed = copy.deepcopy(item)
    *parents, last = [int(part) if part.isdigit() else part for part in path.split(".")]
    place: Any = changed
    for part in parents:
        place = place[part] if isinstance(place, list) else place.setdefault(part, {})
    if value is None:
        del place[last]
    elif isinstance(last, int) and last == len(place):
        place.append(value)
    else:
        place[last] = value
    return changed


def kubectl(*arguments: str, stdin: object = None, check: bool = False) -> subprocess.CompletedProcess[str]:
    """kubectl on the cluster of KUBECONFIG; `stdin` is sent as YAML."""
    text = None if stdin is None else yaml.safe_dump(stdin)
    done = subprocess.run(["kubectl", *arguments], input=text, text=True, capture_output=True, timeout=60)
    if check and done.returncode != 0:
        raise AssertionError(f"kubectl {' '.join(arguments)}: {done.stderr}")
    return done


def has_cluster() -> bool:
    """Whether a cluster is given."""
    return bool(os.environ.get("KUBECONFIG"))
