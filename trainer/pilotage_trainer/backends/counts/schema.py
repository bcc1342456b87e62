"""Which steps may be proposed: from the JSON schema of a request (proposal.build_action_schema), or as it would say."""

from typing import Any

from pilotage_core.actions import Action, ActionRules, Tool
from pilotage_core.proposal import visible_controls
from pilotage_core.screen import Screen
from pilotage_trainer.sessions.steps import name_step


def allowed_on(rules: ActionRules, screen: Screen) -> frozenset[str]:
    """What `allowed_steps` finds in the schema of `rules` on `screen`, without writing one: replays ask often."""
    return frozenset(
        name_step(Action(tool, control_id))
        for tool, ids in visible_controls(rules, screen).items()
        for control_id in ids or ("",)
    )


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
