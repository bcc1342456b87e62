"""Kubernetes Events: what happened to a process cluster, for whoever runs `kubectl describe`."""

import hashlib

from pilotage_operator.api.fields import API_VERSION
from pilotage_operator.api.reading import Object
from pilotage_operator.api.status import write_time

COMPONENT = "pilotage-controller"


def build_event(cluster: Object, reason: str, message: str, *, warning: bool, now: float) -> Object:
    """An Event about `cluster`. Its name follows from what it says and the hour: the same is told once an hour."""
    metadata = cluster["metadata"]
    told = f"{metadata.get('uid', '')}:{reason}:{message}:{int(now // 3600)}"
    name = f"{metadata['name'][:40]}.{hashlib.blake2b(told.encode(), digest_size=8).hexdigest()}"
    at = write_time(now).partition(".")[0] + "Z"
    return {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": name, "namespace": metadata["namespace"]},
        "involvedObject": {
            "apiVersion": API_VERSION,
            "kind": "ProcessCluster",
            "name": metadata["name"],
            "namespace": metadata["namespace"],
            "uid": metadata.get("uid", ""),
        },
        "type": "Warning" if warning else "Normal",
        "reason": reason,
        "message": message[:1000],
        "source": {"component": COMPONENT},
        "firstTimestamp": at,
        "lastTimestamp": at,
        "count": 1,
    }
