"""A Bundle from plain objects as the API server or a manifest file gives them, with what they refer to."""

from collections.abc import Mapping
from functools import lru_cache
from typing import Any

import msgspec
import yaml
from pydantic import ValidationError

from pilotage_core.errors import InvalidInputError
from pilotage_core.screen import ScreenSchema
from pilotage_operator.api.automation_gate import AutomationGateSpec
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.decide.facts import Bundle

Object = dict[str, Any]
Lookup = Mapping[tuple[str, str, str], Object]
"""(kind, namespace, name) → object."""


def build_bundle(cluster: Object, objects: Lookup, serving_image: str) -> Bundle:
    """`cluster` with the PolicyCritic, AutomationGate and screens it names. Raises InvalidInputError with the field."""
    metadata = cluster["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    where = f"ProcessCluster {namespace}/{name}"
    try:
        spec = ProcessClusterSpec.model_validate(cluster["spec"])
    except ValidationError as error:
        raise _invalid(error, where) from error
    critic = _find(objects, "PolicyCritic", namespace, spec.policy_critic_ref.name, f"{where}: spec.policyCriticRef")
    gate = _find(objects, "AutomationGate", namespace, spec.gate_ref.name, f"{where}: spec.gateRef")
    try:
        pair = PolicyCriticSpec.model_validate(critic["spec"])
        return Bundle(
            namespace=namespace,
            name=name,
            uid=metadata.get("uid", ""),
            generation=metadata.get("generation", 1),
            cluster=spec,
            policy_critic=pair,
            gate=AutomationGateSpec.model_validate(gate["spec"]),
            screens=_read_screens(objects, namespace, spec.screens.config_map, where),
            serving_image=pair.serving.image or serving_image,
        )
    except ValidationError as error:
        raise _invalid(error, where) from error


def read_schemas(text: str, where: str) -> tuple[ScreenSchema, ...]:
    """Screen schemas from YAML or JSON: one, or a list. Raises InvalidInputError."""
    try:
        return _decode_schemas(text)
    except (yaml.YAMLError, msgspec.ValidationError) as error:
        raise InvalidInputError(f"is no screen schema: {error}", where=where) from error


@lru_cache(maxsize=256)
def _decode_schemas(text: str) -> tuple[ScreenSchema, ...]:
    """The same text every second: reading YAML was four fifths of a sweep."""
    found = yaml.safe_load(text)
    return msgspec.convert(found if isinstance(found, list) else [found], tuple[ScreenSchema, ...])


def _read_screens(objects: Lookup, namespace: str, name: str, where: str) -> tuple[ScreenSchema, ...]:
    config_map = _find(objects, "ConfigMap", namespace, name, f"{where}: spec.screens.configMap")
    data = config_map.get("data") or {}
    return tuple(s for key in sorted(data) for s in read_schemas(data[key], f"ConfigMap {namespace}/{name}: {key}"))


def _find(objects: Lookup, kind: str, namespace: str, name: str, where: str) -> Object:
    found = objects.get((kind, namespace, name))
    if found is None:
        raise InvalidInputError(
            f"{kind} {name} is not there", where=where, remedy=f"create it in namespace {namespace}"
        )
    return found


def _invalid(error: ValidationError, where: str) -> InvalidInputError:
    first = error.errors(include_url=False)[0]
    field = ".".join(str(part) for part in first["loc"])
    return InvalidInputError(f"{first['msg']}", where=f"{where}: spec.{field}")
