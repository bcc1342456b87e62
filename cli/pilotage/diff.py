"""`pilotage diff`: what manifests would change, field by field, and what that would do to each process cluster.

It is decided by the controller's own function, from the status that is there. Nothing is written anywhere.
"""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from pilotage.services import Kubernetes
from pilotage_core.errors import InvalidInputError
from pilotage_core.stage import UNATTENDED
from pilotage_operator.public import (
    SPECS,
    Objects,
    Outlook,
    ProcessClusterStatus,
    UnmetStatus,
    build_bundle,
    find_serving_image,
    list_guarded,
    preview,
    read_manifests,
    read_stream,
)

KINDS = ("ProcessCluster", "PolicyCritic", "AutomationGate")
Key = tuple[str, str, str]


@dataclass
class Difference:
    """What there is to say of one object."""

    kind: str
    name: str
    lines: list[str] = field(default_factory=list)


def read_wanted(source: str) -> Objects:
    """Objects of a kustomize folder, of a YAML file, or of standard input (`-`), by kind, namespace and name."""
    if source == "-":
        return read_stream(sys.stdin.read(), "standard input")
    path = Path(source)
    return read_manifests(path) if path.is_dir() else read_stream(_read(path), source)


def read_live(wanted: Objects) -> Objects:
    """What the current context has in the namespaces of `wanted`."""
    kubernetes = Kubernetes()
    namespaces = {namespace for _, namespace, _ in wanted}
    found: Objects = {}
    for kind, (plural, _) in SPECS.items():
        for item in kubernetes.list_objects(plural):
            namespace, name = item["metadata"]["namespace"], item["metadata"]["name"]
            if namespace in namespaces:
                found[kind, namespace, name] = item
    clusters = {key: item for key, item in (*found.items(), *wanted.items()) if key[0] == "ProcessCluster"}
    for namespace, name in {(key[1], _screens_of(item)) for key, item in clusters.items()}:
        config_map = kubernetes.config_map(namespace, name) if name else None
        if config_map is not None:
            found["ConfigMap", namespace, name] = config_map
    return found


def _screens_of(item: dict[str, Any]) -> str:
    spec = item.get("spec") or {}
    return str((spec.get("screens") or {}).get("configMap") or "")


def list_differences(live: Objects, wanted: Objects, now: float) -> list[Difference]:
    """What applying `wanted` over `live` would change. `now` in seconds since the epoch."""
    after = {**live, **{key: _merge(live.get(key), item) for key, item in wanted.items()}}
    found = []
    for key in sorted(key for key in wanted if key[0] in KINDS):
        _whole(key[0], wanted[key], key)  # by itself, whatever is there
        lines = list(_compare(key, live.get(key), after[key], after))
        if lines:
            found.append(Difference(key[0], f"{key[1]}/{key[2]}", lines))
    for key in sorted(key for key in after if key[0] == "ProcessCluster"):
        lines = list(_foresee(key, live, after, now))
        if lines:
            name = f"{key[1]}/{key[2]}"
            known = next((one for one in found if (one.kind, one.name) == (key[0], name)), None)
            if known is None:
                known = Difference(key[0], name)
                found.append(known)
            known.lines += lines
    return found


def describe(found: list[Difference]) -> Iterator[str]:
    """The differences, line by line."""
    for difference in found:
        yield f"{difference.kind} {difference.name}"
        yield from (f"  {line}" for line in difference.lines)
    if not found:
        yield "no difference"


# --- fields ----------------------------------------------------------------------------------------------------------
def _compare(key: Key, before: dict[str, Any] | None, after: dict[str, Any], objects: Objects) -> Iterator[str]:
    kind = key[0]
    new = _whole(kind, after, key)
    old = None if before is None else _whole(kind, before, key)
    guarded = list_guarded(kind, old, new)
    if old is None:
        yield "new" + ("  [needs promote]" if guarded else "")
        return
    for path, was, now in _list_changes(old, new, "spec"):
        needs = any(path == one or path.startswith((f"{one}.", f"{one}[")) for one in guarded)
        yield f"{path}: {was} → {now}" + ("  [needs promote]" if needs else "")
    if old != new and kind != "ProcessCluster":
        field_name = "policyCriticRef" if kind == "PolicyCritic" else "gateRef"
        users = [name for (of, ns, name), item in objects.items() if _refers(of, ns, item, field_name, key)]
        yield f"used by {', '.join(sorted(users)) or 'no process cluster'}"


def _refers(kind: str, namespace: str, item: dict[str, Any], field_name: str, key: Key) -> bool:
    return kind == "ProcessCluster" and namespace == key[1] and item["spec"].get(field_name, {}).get("name") == key[2]


def _whole(kind: str, item: dict[str, Any], key: Key) -> dict[str, Any]:
    """Its spec with every default, so that leaving out what is the default anyway is no change."""
    try:
        found: dict[str, Any] = SPECS[kind][1].model_validate(item.get("spec")).to_json()
    except ValueError as error:
        first = str(error).splitlines()
        raise InvalidInputError(" ".join(first[1:3]).strip(), where=f"{kind} {key[1]}/{key[2]}") from error
    return found


def _list_changes(old: Any, new: Any, path: str) -> Iterator[tuple[str, str, str]]:
    if isinstance(old, dict) and isinstance(new, dict):
        for name in sorted(old.keys() | new.keys()):
            yield from _list_changes(old.get(name), new.get(name), f"{path}.{name}")
    elif isinstance(old, list) and isinstance(new, list) and len(old) == len(new):
        for place, (was, now) in enumerate(zip(old, new, strict=True)):
            yield from _list_changes(was, now, f"{path}[{place}]")
    elif old != new:
        yield path, _say(old), _say(new)


def _say(value: Any) -> str:
    text = "nothing" if value in (None, "", [], {}) else str(value)
    return text if len(text) <= 80 else f"{text[:77]}…"


def _merge(live: dict[str, Any] | None, item: dict[str, Any]) -> dict[str, Any]:
    """`item` as it would stand there: with the status and identity of what is there, and what `item` leaves open."""
    if live is None:
        return item
    generation = live["metadata"].get("generation", 1) + 1
    spec = {**live.get("spec", {}), **(item.get("spec") or {})}
    merged = {**item, "spec": spec, "metadata": {**live["metadata"], "generation": generation}}
    return merged | ({"status": live["status"]} if "status" in live else {})


# --- what follows ----------------------------------------------------------------------------------------------------
def _foresee(key: Key, live: Objects, after: Objects, now: float) -> Iterator[str]:
    status = ProcessClusterStatus.model_validate(after[key].get("status") or {})
    image = find_serving_image(status)
    try:
        then = preview(build_bundle(after[key], after, image), status, now)
    except InvalidInputError as error:
        if key not in live or _is_whole(live[key], live, image):
            yield f"→ it would not be whole: {error}"
        return
    if key not in live:
        ceiling = after[key]["spec"].get("maxStage", "Logging")
        yield f"→ it would begin in {then.stage}, and climb no higher than {ceiling}"
        return
    try:
        before = preview(build_bundle(live[key], live, image), status, now)
    except InvalidInputError as error:
        yield f"→ now it is not whole ({error}); then it would be in {then.stage}"
        return
    yield from _tell(before, then, status)


def _is_whole(item: dict[str, Any], objects: Objects, image: str) -> bool:
    try:
        build_bundle(item, objects, image)
    except InvalidInputError:
        return False
    return True


def _tell(before: Outlook, then: Outlook, status: ProcessClusterStatus) -> Iterator[str]:
    if then.stage is not before.stage:
        why = f", held by {then.held_by}" if then.held_by and then.held_by != before.held_by else ""
        yield f"→ {before.stage} now, {then.stage} then{why}; it has earned {status.earned}"
        if then.stage in UNATTENDED:
            yield f"  evidence: {status.tau_summary or 'none'}; at least {status.precision or '?'} are right"
    if then.void and not before.void:
        yield f"→ {then.void}: it falls to Copilot until it is calibrated again"
    elif then.tau != before.tau:
        yield f"→ τ in force: {before.tau or 'none'} now, {then.tau or 'none'} then"
    old = {each.condition: each for each in before.unmet}
    new = {each.condition: each for each in then.unmet}
    for name in sorted(new.keys() | old.keys()):
        if old.get(name) != new.get(name):
            was, will = (_lack(unmet[name]) if name in unmet else "met" for unmet in (old, new))
            yield f"→ {name}: {was} now; {will} then"


def _lack(unmet: UnmetStatus) -> str:
    return f"{unmet.have or 'nothing'}, needs {unmet.need}"


def run_diff(source: str, against: str) -> tuple[list[str], bool]:
    """The report, and whether anything would change. `against`: another source, in place of the current context."""
    wanted = read_wanted(source)
    if not any(key[0] in KINDS for key in wanted):
        raise InvalidInputError("holds no object of pilotage.dev", where=source)
    live = read_wanted(against) if against else read_live(wanted)
    found = list_differences(live, wanted, time.time())
    return list(describe(found)), bool(found)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot be read: {error}", where=str(path)) from error
