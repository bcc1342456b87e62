"""The HTTP surface as OpenAPI 3.1, made of the endpoints in routes.py and of the types that they speak. Pure."""

import re
from collections.abc import Callable, Iterable
from importlib.metadata import version
from typing import Any, NamedTuple

import msgspec

from pilotage_core.problem import Problem
from pilotage_gateway.intake import SESSION_ID
from pilotage_gateway.lists import LONGEST_WAIT_SECONDS
from pilotage_gateway.problems import STATUS
from pilotage_gateway.reading import MOST_AT_ONCE

Json = dict[str, Any]
PARAMETERS: dict[str, Json] = {
    "session_id": {"type": "string", "pattern": f"^({SESSION_ID.pattern}~)?{SESSION_ID.pattern}$"},
    "proposal_id": {"type": "string", "pattern": f"^{SESSION_ID.pattern}$"},
    "process_cluster": {"type": "string", "description": "namespace/name"},
    "after": {"type": "string", "description": "`next` of the page before"},
    "wait": {"type": "integer", "minimum": 0, "maximum": LONGEST_WAIT_SECONDS},
    "limit": {"type": "integer", "minimum": 0, "maximum": MOST_AT_ONCE},
    "state": {"type": "string", "enum": ["open", "closed"]},
    "closed": {"type": "string", "enum": ["true", "false"]},
    "html": {"type": "string", "enum": ["true", "false"]},
    "since": {"type": "string", "format": "date-time"},
    "until": {"type": "string", "format": "date-time"},
    "pair": {"type": "string"},
    "name[]": {"type": "array", "items": {"type": "string"}},
}
OPEN = frozenset({"/healthz", "/readyz"})


class Endpoint(NamedTuple):
    """A path with who answers it. `takes` and `gives` are message types, or `gives` a media type; what of `query` ends
    with "!" must be there.
    """

    method: str
    path: str
    answer: Callable[..., Any]
    gives: type | str
    takes: type | None = None
    query: tuple[str, ...] = ()


def describe_api(endpoints: Iterable[Endpoint]) -> Json:
    """The document."""
    endpoints = list(endpoints)
    types = [kind for each in endpoints for kind in (each.takes, each.gives) if isinstance(kind, type)]
    _, components = msgspec.json.schema_components([*types, Problem], ref_template="#/components/schemas/{name}")
    paths: Json = {}
    for each in endpoints:
        paths.setdefault(each.path, {})[each.method.lower()] = _describe(each)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "Pilotage gateway",
            "version": version("pilotage"),
            "description": "Between a BPM and its models: events in, turns out. Who may do what: docs/security.md.",
        },
        "paths": paths,
        "components": {
            "schemas": components,
            "securitySchemes": {
                "bearer": {"type": "http", "scheme": "bearer"},
                "stops": {"type": "apiKey", "in": "header", "name": "X-Pilotage-Credential"},
            },
        },
    }


def _describe(endpoint: Endpoint) -> Json:
    words = re.sub(r"\s+", " ", endpoint.answer.__doc__ or "").strip()
    found: Json = {
        "operationId": endpoint.answer.__name__,
        "summary": re.sub(r"^`[A-Z]+ [^`]*`[:,]? ?", "", words),
        "parameters": [_parameter(name, "path") for name in re.findall(r"{(\w+)}", endpoint.path)]
        + [_parameter(name, "query") for name in endpoint.query],
        "responses": {"200": {"description": "Done", "content": _content(endpoint.gives)}} | _problems(endpoint),
    }
    if endpoint.takes is not None:
        found["requestBody"] = {"required": True, "content": _content(endpoint.takes)}
    if endpoint.path not in OPEN:
        also: list[Json] = [{"stops": []}] if endpoint.path in ("/v1/suspend", "/v1/status") else []
        found["security"] = [{"bearer": []}, *also, *([{}] if endpoint.path in ("/metrics", "/v1/suspend") else [])]
    return found


def _parameter(name: str, place: str) -> Json:
    found: Json = {"name": name.rstrip("!"), "in": place, "schema": PARAMETERS[name.rstrip("!")]}
    return found | ({"required": True} if place == "path" or name.endswith("!") else {})


def _content(kind: type | str) -> Json:
    if isinstance(kind, str):
        return {kind: {"schema": {"type": "object" if kind == "application/json" else "string"}}}
    return {"application/json": {"schema": {"$ref": f"#/components/schemas/{kind.__name__}"}}}


def _problems(endpoint: Endpoint) -> Json:
    statuses = {404, 503} if endpoint.path in OPEN else {*STATUS.values(), 500}
    if endpoint.takes is None:
        statuses -= {400, 413, 415}
    content = {"application/problem+json": {"schema": {"$ref": "#/components/schemas/Problem"}}}
    return {str(status): {"description": "A problem", "content": content} for status in sorted(statuses)}
