"""`pilotage stop-all` and what lifts it: every replica of the gateway at once, with the time until the last answered.

A replica is asked at its own address and through the API server, whichever answers first, again and again until the
time is over. Where the API server does not answer, the replicas are those that it named last. Not here: what a stop
does in a gateway (gateway/pilotage_gateway/rulings.py looks at it in the transaction that writes an intent).
"""

import os
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import msgspec

from pilotage.services import SYSTEM_NAMESPACE, GatewayApi, only_credential
from pilotage_core.errors import InvalidInputError, PilotageError, UnavailableError
from pilotage_core.wire import Suspend, Suspended

ANSWER_SECONDS, AGAIN_SECONDS = 2.0, 0.2
FIND_SECONDS, WITHIN_SECONDS = 5.0, 10.0
"""How long replicas are looked for, and then asked."""
LONGEST_PERMIT_SECONDS = 60
"""No gate and no controller gives leave for longer."""
PORT, ALL = 8080, "*"
LABEL = "app.kubernetes.io/name=pilotage-gateway"
Way = Callable[[Suspend], None]
"""Tells one gateway, which answers once it is durable; raises PilotageError."""


@dataclass
class Replica:
    """One replica, the ways to reach it, and what became of that: when it answered (monotonic seconds)."""

    name: str
    ways: dict[str, Way]
    answered_at: float | None = None
    faults: dict[str, str] = field(default_factory=dict)


def tell_replicas(replicas: list[Replica], body: Suspend, within: float) -> None:
    """Ask all of `replicas` at once, by all their ways, until each has answered or `within` seconds are over."""
    until, done = time.monotonic() + within, threading.Event()
    threads = [
        threading.Thread(target=_insist, args=(replica, way, body, until, done), daemon=True)
        for replica in replicas
        for way in replica.ways
    ]
    for thread in threads:
        thread.start()
    while time.monotonic() < until and any(replica.answered_at is None for replica in replicas):
        time.sleep(0.005)
    done.set()


def _insist(replica: Replica, way: str, body: Suspend, until: float, done: threading.Event) -> None:
    while replica.answered_at is None and not done.is_set() and time.monotonic() < until:
        try:
            replica.ways[way](body)
        except PilotageError as error:
            replica.faults[way] = str(error)
            done.wait(AGAIN_SECONDS)
        else:
            replica.answered_at = replica.answered_at or time.monotonic()
            return


def describe(replicas: list[Replica], body: Suspend, notes: list[str], began: float) -> Iterator[str]:
    """The report, line by line. `began` is when it was asked for (monotonic seconds)."""
    told = sorted(
        (replica.answered_at - began, replica.name) for replica in replicas if replica.answered_at is not None
    )
    missing = [replica for replica in replicas if replica.answered_at is None]
    yield from notes
    for after, name in told:
        yield f"  ✓ {name} {'refuses' if body.suspended else 'goes on'} since {after:.2f} s after it was asked for"
    for replica in missing:
        yield f"  ✗ {replica.name} was not reached: {'; '.join(replica.faults.values()) or 'no answer in time'}"
    if missing and body.suspended:
        yield (
            f"What was not reached acts on until its permit lapses: {LONGEST_PERMIT_SECONDS} s at the latest after the "
            "last controller is gone. To be sure of that:"
        )
        yield f"  kubectl -n {SYSTEM_NAMESPACE} scale deployment pilotage-controller --replicas=0"
    what = "not stopped" if not told else "stopped" if body.suspended else "let go on"
    last = f", the last one {told[-1][0]:.2f} s after it was asked for" if told else ""
    yield f"{what}: every process cluster at {len(told)} of {len(replicas)} replicas{last}"


# --- which replicas there are ----------------------------------------------------------------------------------------
def by_address(urls: list[str]) -> list[Replica]:
    """The gateways at `urls`."""
    return [Replica(url, {"address": _tell_at(url)}) for url in urls]


def find_replicas(*, lets_go: bool) -> tuple[list[Replica], list[str]]:
    """The gateway's pods as the current context's API server names them, else as it did last; and what to say of that.

    It takes `FIND_SECONDS` at most: a program that signs in may hang. What `lets_go` goes to the named context alone:
    stopping too much is safe. Raises UnavailableError where there is no way to know any.
    """
    remembered, found = _recall(find_memory()), _Found()
    thread = threading.Thread(target=_discover, args=(found, remembered), daemon=True)
    thread.start()
    thread.join(FIND_SECONDS)
    if found.pods is not None:
        return [_as_replica(name, ip, found.client) for name, ip in found.pods.items()], []
    why = found.fault or f"the API server was not found within {FIND_SECONDS:g} s"
    known = [remembered.get(found.context, {})] if found.context else list(remembered.values())
    pods = {name: ip for each in known for name, ip in each.items()}
    if not pods or (lets_go and not found.context):
        raise UnavailableError(f"no gateway is known: {why}", remedy="name each replica with --gateway URL")
    notes = [f"{why}; replicas as they were named last:"]
    return [_as_replica(name, ip, found.client) for name, ip in pods.items()], notes


class _Found:
    """What discovery has found so far."""

    def __init__(self) -> None:
        self.client: Any = None
        self.context = ""
        self.pods: dict[str, str] | None = None
        self.fault = ""


def _discover(found: _Found, remembered: dict[str, dict[str, str]]) -> None:
    try:
        client, found.context = _connect()
        pods = _list_pods(client)
        if not pods:
            raise UnavailableError("no pod of the gateway is there")
        found.client, found.pods = client, pods
        _remember(find_memory(), remembered | {found.context: pods})
    except UnavailableError as error:
        found.fault = error.what


def find_memory() -> Path:
    """Where replicas are remembered, by context."""
    return Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "pilotage" / "gateways.json"


def _as_replica(name: str, ip: str, client: Any) -> Replica:
    ways = {"address": _tell_at(f"http://{ip}:{PORT}")} if ip else {}
    if client is not None:
        ways["API server"] = _tell_through(client, name)
    return Replica(name, ways)


def _tell_at(url: str) -> Way:
    def tell(body: Suspend) -> None:
        _check(GatewayApi(url).send_suspend(body, ANSWER_SECONDS), body, url)

    return tell


def _tell_through(client: Any, pod: str) -> Way:
    """By the API server's proxy to the pod: needs the verb `create` on pods/proxy."""
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError

    def tell(body: Suspend) -> None:
        try:
            asked = client.param_serialize(
                "POST",
                f"/api/v1/namespaces/{SYSTEM_NAMESPACE}/pods/{pod}:{PORT}/proxy/v1/suspend",
                header_params={"Content-Type": "application/json", "Accept": "application/json", **only_credential()},
                body=msgspec.to_builtins(body),
                auth_settings=["BearerToken"],
            )
            answer = client.call_api(*asked, _request_timeout=ANSWER_SECONDS)
            told = answer.read()
        except (ApiException, HTTPError) as error:
            raise UnavailableError(f"through the API server: {type(error).__name__}", where=pod) from error
        if answer.status != 200:
            raise UnavailableError(f"through the API server: HTTP {answer.status}", where=pod)
        _check(told, body, pod)

    return tell


def _check(answer: bytes, body: Suspend, where: str) -> None:
    """An address may be somebody else's by now: only a gateway that says that it has done it has."""
    try:
        told = msgspec.json.decode(answer, type=Suspended)
    except msgspec.DecodeError as error:
        raise UnavailableError("what answers there is no gateway", where=where) from error
    if (told.process_cluster, told.suspended) != (body.process_cluster, body.suspended):
        raise UnavailableError("what answers there has not done it", where=where)


def _connect() -> tuple[Any, str]:
    from kubernetes import client, config
    from kubernetes.config import ConfigException

    try:
        _, active = config.list_kube_config_contexts()
        config.load_kube_config()
    except (ConfigException, OSError) as error:
        raise UnavailableError(f"no Kubernetes is configured ({error})") from error
    return client.ApiClient(), str(active["name"])


def _list_pods(client: Any) -> dict[str, str]:
    """Names and addresses of the gateway's pods that may act."""
    from kubernetes.client import CoreV1Api
    from kubernetes.client.exceptions import ApiException
    from urllib3.exceptions import HTTPError
    from urllib3.util import Retry

    client.rest_client.pool_manager.connection_pool_kw["retries"] = Retry(0)
    try:
        found = CoreV1Api(client).list_namespaced_pod(
            SYSTEM_NAMESPACE, label_selector=LABEL, _request_timeout=ANSWER_SECONDS
        )
    except (ApiException, HTTPError) as error:
        raise UnavailableError(f"the API server does not answer ({type(error).__name__})") from error
    ended = ("Succeeded", "Failed")
    return {pod.metadata.name: pod.status.pod_ip or "" for pod in found.items if pod.status.phase not in ended}


def _recall(memory: Path) -> dict[str, dict[str, str]]:
    try:
        return msgspec.json.decode(memory.read_bytes(), type=dict[str, dict[str, str]])
    except (OSError, msgspec.DecodeError):
        return {}


def _remember(memory: Path, known: dict[str, dict[str, str]]) -> None:
    try:
        memory.parent.mkdir(parents=True, exist_ok=True)
        memory.write_bytes(msgspec.json.encode(known))
    except OSError:  # a stop does not wait for what would only help the next one
        return


def suspend_everything(urls: list[str], suspended: bool, who: str, why: str) -> tuple[list[str], bool]:
    """Stop every replica, or let it go on. Gives the report, and whether all of them were reached."""
    if not who.strip() or not why.strip():
        raise InvalidInputError("who and why are empty", where="--who", remedy="say who asks for it, and why")
    began = time.monotonic()
    body = Suspend(process_cluster=ALL, suspended=suspended, who=who, why=why)
    replicas, notes = (by_address(urls), []) if urls else find_replicas(lets_go=not suspended)
    tell_replicas(replicas, body, WITHIN_SECONDS)
    return list(describe(replicas, body, notes, began)), all(r.answered_at is not None for r in replicas)
