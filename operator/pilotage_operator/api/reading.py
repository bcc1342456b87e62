"""Specs as the API server gives them, which may be of a newer release than this controller.

Fields that this one does not know are left out of the reading and told; where they may be a restriction that it would
not keep, the spec is refused instead. Not here: the status, whose unknown fields are carried along (status.py).
"""

from collections.abc import Mapping
from types import UnionType
from typing import Any, TypeVar, get_args, get_origin

from pydantic import BaseModel, ValidationError

from pilotage_core.errors import InvalidInputError

Object = dict[str, Any]
Lookup = Mapping[tuple[str, str, str], Object]
"""(kind, namespace, name) → object."""

M = TypeVar("M", bound=BaseModel)
RESTRICTING = frozenset({"selector", "actions", "guardrails", "calibration", "finalization", "strata"})
"""Parts of a spec in which a field of a newer release may hold something back."""


def read_spec(kind: type[M], given: Any, where: str) -> tuple[M, tuple[str, ...]]:
    """`given` as a `kind`, and the paths of fields that a newer release must have written.

    Raises InvalidInputError naming the field, also for an unknown field that may be a restriction.
    """
    try:
        return kind.model_validate(given), ()  # nearly always: models refuse what they do not know
    except ValidationError:
        known, unknown = _split(kind, given, "spec")
    for path in unknown:
        if path.split(".")[1].partition("[")[0] in RESTRICTING:
            raise InvalidInputError(
                "is a field of a newer release, which may restrict what this one would allow",
                where=f"{where}: {path}",
                remedy="run the controller of that release, or take the field out",
            )
    try:
        return kind.model_validate(known), unknown
    except ValidationError as error:
        first = error.errors(include_url=False)[0]
        field = ".".join(str(part) for part in first["loc"])
        raise InvalidInputError(f"{first['msg']}", where=f"{where}: spec.{field}") from error


def _split(kind: Any, given: Any, path: str) -> tuple[Any, tuple[str, ...]]:
    """`given` without what `kind` does not have, and the paths of that."""
    model = _find_model(kind)
    if model is None:
        return given, ()
    if isinstance(given, list | tuple):
        parts = [_split(kind, each, f"{path}[{place}]") for place, each in enumerate(given)]
        return [part for part, _ in parts], tuple(name for _, names in parts for name in names)
    if not isinstance(given, dict):
        return given, ()
    fields = {field.alias or name: field for name, field in model.model_fields.items()}
    known, unknown = {}, []
    for name, value in given.items():
        if name not in fields:
            unknown.append(f"{path}.{name}")
            continue
        known[name], more = _split(fields[name].annotation, value, f"{path}.{name}")
        unknown += more
    return known, tuple(unknown)


def _find_model(kind: Any) -> type[BaseModel] | None:
    """The model in an annotation: of a field, of the items of a tuple, of an optional one."""
    if isinstance(kind, type) and issubclass(kind, BaseModel):
        return kind
    if get_origin(kind) is not None or isinstance(kind, UnionType):
        return next((found for part in get_args(kind) if (found := _find_model(part)) is not None), None)
    return None
