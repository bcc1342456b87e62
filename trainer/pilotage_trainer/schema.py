"""The JSON schema of a request, read back into the steps it allows (the inverse of proposal.build_action_schema)."""

from typing import Any

from pilotage_core.actions import Action, Tool
from pilotage_trainer.features import name_step


def allowed_steps(schema: dict[str, Any]) -> frozenset[str]:
    """The steps that `schema` allows. Raises ValueError where it is no schema of actions."""
    steps: set[str] = set()
    try:
        for branch in schema["anyOf"]:
            tool = branch["properties"]["tool"]["const"]
            ids = branch["properties"].get("control_id", {}).get("enum", [""])
            if tool:
                steps.update(name_step(Action(Tool(tool), control_id)) for control_id in ids)
    except (KeyError, TypeError, AttributeError) as error:
        raise ValueError(f"the schema is none of actions: {error!r}") from error
    return frozenset(steps)
