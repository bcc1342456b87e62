"""Screen schemas from the text of a ConfigMap, within bounds: one tenant's file costs no other its leave."""

from functools import lru_cache
from typing import Any

import msgspec
import yaml

from pilotage_core.errors import InvalidInputError, InvalidScreenError
from pilotage_core.reading import check_schemas
from pilotage_core.screen import ScreenSchema

MAX_TEXT_BYTES = 64 << 10
MAX_DEPTH = 16
MAX_NODES = 20_000
MAX_SCHEMAS = 32
MAX_RULES = 256
MAX_SELECTOR_CHARS = 512

LOADER: Any = getattr(yaml, "CBaseLoader", yaml.BaseLoader)
"""Every scalar is text: nothing in a schema is a number or a date, and a resolver cannot fail on what it is not."""


def read_schemas(text: str, where: str) -> tuple[ScreenSchema, ...]:
    """Screen schemas from YAML or JSON: one, or a list. Raises InvalidInputError, also for a selector that is none."""
    try:
        found = _decode(text)
    except RecursionError:  # whatever the bounds let through
        found = "is nested too deep"
    if isinstance(found, str):
        raise InvalidInputError(f"is no screen schema: {found}", where=where)
    return found


@lru_cache(maxsize=1024)
def _decode(text: str) -> tuple[ScreenSchema, ...] | str:
    """The schemas, or what is wrong with `text`. It comes every second: what failed once is not read again."""
    if (size := len(text.encode(errors="replace"))) > MAX_TEXT_BYTES:
        return f"{size} bytes, the limit is {MAX_TEXT_BYTES}"
    try:
        if fault := _find_excess(text):
            return fault
        given = yaml.load(text, Loader=LOADER)
        schemas = msgspec.convert(given if isinstance(given, list) else [given], tuple[ScreenSchema, ...])
        _check_bounds(schemas)
        check_schemas(schemas)
    except (yaml.YAMLError, ValueError, InvalidScreenError) as error:  # msgspec's errors are ValueErrors
        return str(error)
    return schemas


def _find_excess(text: str) -> str:
    """What `text` has too much of, told from its events: before anything is built of it."""
    depth = nodes = 0
    for event in yaml.parse(text, Loader=LOADER):
        if isinstance(event, yaml.AliasEvent):
            return "aliases are not read: write it out"
        if isinstance(event, yaml.CollectionStartEvent):
            depth += 1
        elif isinstance(event, yaml.CollectionEndEvent):
            depth -= 1
        nodes += isinstance(event, yaml.NodeEvent)
        if depth > MAX_DEPTH:
            return f"nested deeper than {MAX_DEPTH}"
        if nodes > MAX_NODES:
            return f"more than {MAX_NODES} values"
    return ""


def _check_bounds(schemas: tuple[ScreenSchema, ...]) -> None:
    if len(schemas) > MAX_SCHEMAS:
        raise ValueError(f"{len(schemas)} schemas, the limit is {MAX_SCHEMAS}")
    for schema in schemas:
        rules = len(schema.controls) + len(schema.facts)
        if rules > MAX_RULES:
            raise ValueError(f"schema {schema.name}: {rules} rules, the limit is {MAX_RULES}")
        selectors = [schema.applies, schema.title, schema.announcements, *(rule.selector for rule in schema.controls)]
        selectors += [*(fact.selector for fact in schema.facts), *schema.hidden, *schema.disabled, *schema.ignored]
        if longest := next((each for each in selectors if len(each) > MAX_SELECTOR_CHARS), None):
            raise ValueError(f"schema {schema.name}: a selector of {len(longest)} characters")
