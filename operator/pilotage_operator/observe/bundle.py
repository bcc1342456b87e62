"""A Bundle from plain objects as the API server or a manifest file gives them, with what they refer to."""

from pilotage_core.errors import InvalidInputError
from pilotage_core.screen import ScreenSchema
from pilotage_operator.api.automation_gate import AutomationGateSpec
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.process_cluster import ProcessClusterSpec
from pilotage_operator.api.reading import Lookup, Object, read_spec
from pilotage_operator.api.rules import build_action_rules
from pilotage_operator.facts import Bundle
from pilotage_operator.observe.screens import MAX_TEXT_BYTES, read_schemas


def build_bundle(cluster: Object, objects: Lookup, serving_image: str) -> Bundle:
    """`cluster` with the PolicyCritic, AutomationGate and screens it names. Raises InvalidInputError with the field."""
    metadata = cluster["metadata"]
    namespace, name = metadata["namespace"], metadata["name"]
    where = f"ProcessCluster {namespace}/{name}"
    spec, newer = read_spec(ProcessClusterSpec, cluster.get("spec"), where)
    build_action_rules(spec)  # refused here, by its field, where a gateway could not run it
    critic = _find(objects, "PolicyCritic", namespace, spec.policy_critic_ref.name, f"{where}: spec.policyCriticRef")
    gate = _find(objects, "AutomationGate", namespace, spec.gate_ref.name, f"{where}: spec.gateRef")
    pair, of_pair = read_spec(
        PolicyCriticSpec, critic.get("spec"), f"PolicyCritic {namespace}/{spec.policy_critic_ref.name}"
    )
    limits, of_gate = read_spec(
        AutomationGateSpec, gate.get("spec"), f"AutomationGate {namespace}/{spec.gate_ref.name}"
    )
    return Bundle(
        namespace=namespace,
        name=name,
        uid=metadata.get("uid", ""),
        generation=metadata.get("generation", 1),
        cluster=spec,
        policy_critic=pair,
        gate=limits,
        screens=_read_screens(objects, namespace, spec.screens.config_map, where),
        serving_image=pair.serving.image or serving_image,
        newer_fields=newer + of_pair + of_gate,
    )


def _read_screens(objects: Lookup, namespace: str, name: str, where: str) -> tuple[ScreenSchema, ...]:
    config_map = _find(objects, "ConfigMap", namespace, name, f"{where}: spec.screens.configMap")
    data = config_map.get("data") or {}
    size = sum(len(str(text)) for text in data.values())
    if size > 2 * MAX_TEXT_BYTES:
        raise InvalidInputError(
            f"{size} characters, the limit is {2 * MAX_TEXT_BYTES}", where=f"ConfigMap {namespace}/{name}"
        )
    return tuple(
        s for key in sorted(data) for s in read_schemas(str(data[key]), f"ConfigMap {namespace}/{name}: {key}")
    )


def _find(objects: Lookup, kind: str, namespace: str, name: str, where: str) -> Object:
    found = objects.get((kind, namespace, name))
    if found is None:
        raise InvalidInputError(
            f"{kind} {name} is not there", where=where, remedy=f"create it in namespace {namespace}"
        )
    return found
