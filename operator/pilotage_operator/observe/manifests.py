"""A folder of plain YAML with a kustomization.yaml, read the way `kubectl apply -k` would: the local way's API server.

Only `resources`, `namespace` and `patches` (a file, for objects of a kind, by name or all) are understood; anything
else in a kustomization is refused rather than passed over.
"""

import re
from pathlib import Path
from typing import Any

import yaml

from pilotage_core.errors import InvalidInputError
from pilotage_operator.api.reading import Object

UNDERSTOOD = frozenset({"apiVersion", "kind", "resources", "namespace", "patches"})
CLUSTER_SCOPED = frozenset({"Namespace", "CustomResourceDefinition", "PersistentVolume", "ClusterRole"})


def read_manifests(folder: Path, namespace: str = "") -> dict[tuple[str, str, str], Object]:
    """Every object of `folder`, by (kind, namespace, name). Raises InvalidInputError with the file."""
    path = folder / "kustomization.yaml"
    kustomization = _read_one(path)
    unknown = sorted(kustomization.keys() - UNDERSTOOD)
    if unknown:
        raise InvalidInputError(
            f"{', '.join(unknown)} is not understood without Kubernetes",
            where=str(path),
            remedy="keep to resources, namespace and patches",
        )
    namespace = kustomization.get("namespace", namespace)
    objects: dict[tuple[str, str, str], Object] = {}
    for name in kustomization.get("resources", []):
        resource = (folder / name).resolve()
        if resource.is_dir():
            objects |= read_manifests(resource, namespace)
        else:
            objects |= {_key(item): item for item in _read_objects(resource, namespace)}
    for patch in kustomization.get("patches", []):
        change = _read_patch(folder, patch)
        objects |= {key: merge_patch(item, change) for key, item in objects.items() if _is_meant(patch["target"], key)}
    return objects


def merge_patch(value: Any, patch: Any) -> Any:
    """`value` after a JSON merge patch, which is what kustomize does to custom resources. Source: RFC 7386."""
    if not isinstance(patch, dict):
        return patch
    merged = dict(value) if isinstance(value, dict) else {}
    for name, change in patch.items():
        if change is None:
            merged.pop(name, None)
        else:
            merged[name] = merge_patch(merged.get(name), change)
    return merged


def list_files(folder: Path) -> list[Path]:
    """The files `read_manifests` reads, to see whether any has changed."""
    kustomization = _read_one(folder / "kustomization.yaml")
    files = [folder / "kustomization.yaml"]
    for name in kustomization.get("resources", []):
        resource = (folder / name).resolve()
        files += list_files(resource) if resource.is_dir() else [resource]
    return files + [folder / patch["path"] for patch in kustomization.get("patches", []) if "path" in patch]


def _is_meant(target: dict[str, str], key: tuple[str, str, str]) -> bool:
    """Whether a patch for `target` is for the object of `key`. A name is a regular expression, as kustomize has it."""
    kind, _, name = key
    return kind == target["kind"] and re.fullmatch(target.get("name", ".*"), name) is not None


def _read_patch(folder: Path, patch: dict[str, Any]) -> dict[str, Any]:
    """What `patch` changes; names are the objects' own."""
    target = patch.get("target", {})
    if patch.keys() != {"path", "target"} or target.keys() not in ({"kind"}, {"kind", "name"}):
        raise InvalidInputError(
            "a patch needs a path and a target with a kind, perhaps a name, and nothing else",
            where=str(folder / "kustomization.yaml"),
            remedy="patch objects of a kind with a file",
        )
    change = _read_one(folder / patch["path"])
    change.pop("metadata", None)
    return change


def read_stream(text: str, where: str) -> dict[tuple[str, str, str], Object]:
    """Every object of a YAML stream, by (kind, namespace, name). Raises InvalidInputError."""
    return {_key(item): item for item in _read_documents(text, where, "")}


def _read_objects(path: Path, namespace: str) -> list[Object]:
    try:
        text = path.read_text()
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    return _read_documents(text, str(path), namespace)


def _read_documents(text: str, where: str, namespace: str) -> list[Object]:
    try:
        documents = [item for item in yaml.safe_load_all(text) if item]
    except yaml.YAMLError as error:
        raise InvalidInputError(f"is no YAML: {error}", where=where) from error
    for document in documents:
        if not isinstance(document, dict) or not document.get("kind") or not document.get("metadata", {}).get("name"):
            raise InvalidInputError("an object needs kind and metadata.name", where=where)
        if document["kind"] not in CLUSTER_SCOPED:
            document["metadata"]["namespace"] = namespace or document["metadata"].get("namespace", "default")
    return documents


def _read_one(path: Path) -> dict[str, Any]:
    try:
        found = yaml.safe_load(path.read_text())
    except OSError as error:
        raise InvalidInputError(
            f"cannot be read: {error.strerror}", where=str(path), remedy="give a folder with a kustomization.yaml"
        ) from error
    except yaml.YAMLError as error:
        raise InvalidInputError(f"is no YAML: {error}", where=str(path)) from error
    return found if isinstance(found, dict) else {}


def _key(item: Object) -> tuple[str, str, str]:
    return item["kind"], item["metadata"].get("namespace", ""), item["metadata"]["name"]
