"""pydantic models → the structural OpenAPI schema that a CustomResourceDefinition takes.

Structural: no $ref, no title, no additionalProperties: false (unknown fields are refused by strict field validation and
else pruned). Every default is written out: CEL rules are evaluated on defaults too. The definitions around the schemas
are in generate.py.
"""

from typing import Any

from pydantic import BaseModel

from pilotage_core.training import write_decimal

Schema = dict[str, Any]
REBUILT = ("title", "$defs", "additionalProperties", "properties", "items")


def build_structural_schema(model: type[BaseModel]) -> Schema:
    """The schema of `model` with every reference written out."""
    document = model.model_json_schema(by_alias=True, mode="validation")
    return _structural(document, document.get("$defs", {}))


def _structural(node: Schema, definitions: dict[str, Schema]) -> Schema:
    if "$ref" in node:
        target = definitions[node["$ref"].rsplit("/", 1)[1]]
        beside = {key: value for key, value in node.items() if key != "$ref"}
        return _structural(target | beside, definitions)
    if "anyOf" in node:  # X | None: an optional field is left out, never null
        (kept,) = [branch for branch in node["anyOf"] if branch.get("type") != "null"]
        beside = {key: value for key, value in node.items() if key not in ("anyOf", "default")}
        return _structural(kept | beside, definitions)
    schema = {key: value for key, value in node.items() if key not in REBUILT}
    if schema.get("type") == "string" and isinstance(schema.get("default"), float):  # a decimal of core/training.py
        schema["default"] = write_decimal(schema["default"])
    if "description" in schema:
        schema["description"] = " ".join(schema["description"].split())
    if isinstance(node.get("additionalProperties"), dict):
        schema["additionalProperties"] = _structural(node["additionalProperties"], definitions)
    elif "properties" not in node and schema.get("type") == "object":
        schema["x-kubernetes-preserve-unknown-fields"] = True
    if "items" in node:
        schema["items"] = _structural(node["items"], definitions)
    if "properties" in node:
        schema["properties"] = {name: _structural(child, definitions) for name, child in node["properties"].items()}
    return schema
