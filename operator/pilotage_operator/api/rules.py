"""Core types from a ProcessCluster's spec: what the gate and gateways know of it."""

from pilotage_core.actions import ActionPattern, ActionRules, NextStepRule, StratumRule, check_expression
from pilotage_core.wire import MatchExpression
from pilotage_operator.api.process_cluster import Pattern, ProcessClusterSpec


def build_action_rules(spec: ProcessClusterSpec) -> ActionRules:
    """The action rules of `spec`. Raises InvalidInputError for a stop text that cannot be run as it was checked."""
    actions = spec.actions
    for place, text in enumerate(actions.stop_texts):
        check_expression(text, f"spec.actions.stopTexts[{place}]")
    return ActionRules(
        uncritical=_patterns(actions.uncritical),
        finalizing=_patterns(actions.finalizing),
        strata=tuple(StratumRule(_pattern(rule.match), rule.stratum) for rule in actions.strata),
        stop_list=_patterns(actions.stop_list),
        stop_texts=actions.stop_texts,
        next_steps=tuple(NextStepRule(_pattern(rule.after), _patterns(rule.allowed)) for rule in actions.next_steps),
        unattended_in_copilot=_patterns(actions.unattended_in_copilot),
        tools=actions.tools,
        transfer_targets=actions.transfer_targets,
        same_action_limit=actions.same_action_limit,
        no_progress_limit=actions.no_progress_limit,
    )


def build_selector(spec: ProcessClusterSpec) -> tuple[MatchExpression, ...]:
    """The selector of `spec`."""
    return tuple(MatchExpression(term.key, term.operator.value, term.values) for term in spec.selector)


def _patterns(patterns: tuple[Pattern, ...]) -> tuple[ActionPattern, ...]:
    return tuple(_pattern(pattern) for pattern in patterns)


def _pattern(pattern: Pattern) -> ActionPattern:
    return ActionPattern(pattern.tool, pattern.control, pattern.screen)
