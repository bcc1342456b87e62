"""`pilotage screen parse`: a page as the gateway reads it, so that anyone can look. Pages and schemas as files."""

from pathlib import Path

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.reading import read_screen
from pilotage_core.screen import Control, Screen, ScreenSchema
from pilotage_operator.public import read_schemas


def parse_file(page: Path, schemas: Path | None) -> Screen:
    """The screen that `page` is by `schemas` (YAML or JSON; none: by ARIA roles). Raises InvalidInputError."""
    return read_screen(read_page(page), read_schema_file(schemas) if schemas is not None else ())


def read_schema_file(path: Path) -> tuple[ScreenSchema, ...]:
    """The screen schemas in a file: YAML or JSON. Raises InvalidInputError."""
    return tuple(read_schemas(read_page(path), str(path)))


def encode_screen(screen: Screen) -> str:
    """The screen as JSON: every field of every control, whether it has its default or not."""
    controls = [{name: getattr(control, name) for name in Control.__struct_fields__} for control in screen.controls]
    told = {
        "name": screen.name,
        "title": screen.title,
        "recognised": screen.recognised,
        "controls": controls,
        "unknown_controls": screen.unknown_controls,
        "facts": screen.facts,
        "announcements": screen.announcements,
        "faults": [screen.fault] if screen.fault else [],
    }
    return msgspec.json.format(msgspec.json.encode(told), indent=2).decode()


def describe_screen(screen: Screen) -> str:
    """The screen for people: a line a control."""
    lines = [f"{screen.name}{'' if screen.recognised else ' (no schema recognises it)'}: {screen.title}"]
    if screen.fault:
        lines.append(f"  fault: {screen.fault}")
    width = max((len(control.control_id) for control in screen.controls), default=0)
    for control in screen.controls:
        flags = [
            *([] if control.visible else ["hidden"]), *([] if control.enabled else ["disabled"]),
            *(["read only"] if control.readonly else []), *([] if control.known else ["unknown"]),
        ]  # fmt: skip
        options = f" of {', '.join(control.options)}" if control.options else ""
        value = f" = {control.value}" if control.value else ""
        told = f"  {control.control_id:<{width}}  {control.kind:<9} {control.label}{value}{options}"
        lines.append(f"{told}  [{', '.join(flags)}]" if flags else told)
    lines.append(f"  {screen.unknown_controls} unknown")
    return "\n".join(lines)


def read_page(path: Path) -> str:
    """The text of a file. Raises InvalidInputError."""
    try:
        return path.read_bytes().decode("utf-8-sig")
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    except UnicodeDecodeError as error:
        raise InvalidInputError("is not UTF-8", where=str(path), remedy="write it as UTF-8") from error
