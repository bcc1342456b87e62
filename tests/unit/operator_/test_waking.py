"""Between two wakes time changes nothing: whatever a life comes to, a decision in between says what the last did."""

from dataclasses import replace

import msgspec
from facts import MemoryWorld, climb_to, healthy, make_bundle
from hypothesis import given, settings
from hypothesis import strategies as st

from pilotage_core.guardrail import Reading
from pilotage_operator.decide.lifecycle import decide_lifecycle
from pilotage_operator.decide.waking import ANYWAY_SECONDS, MARGIN_SECONDS, find_wake, without_counts
from pilotage_operator.facts import EndpointFact, MonitorFact

READINGS = st.sampled_from(
    [{}, healthy(), healthy(3), {"corrections": Reading(0.6, 40)}, {"corrections": Reading(0.6, 3)},
     {"corrections": Reading(0.0, 0.0, "stale")}]
)  # fmt: skip
GATES = st.sampled_from(
    [{}, {"rollback": {"cooldownSeconds": 50}},
     {"guardrails": [{"name": "corrections", "builtin": "CorrectiveInterventionRate", "comparator": ">",
                      "threshold": "0.3", "windowSeconds": 30, "forSeconds": 12, "graceSeconds": 20,
                      "onMissingData": "Rollback"}]}]
)  # fmt: skip
STAGES = st.sampled_from(["Logging", "Copilot", "Calibration", "Automation"])


@st.composite
def happenings(draw):
    """What happens in one step: (seconds that pass, readings, whether servers answer, how Jobs end, more sessions)."""
    return (
        draw(st.sampled_from([0.0, 1.0, 5.0, 40.0, 400.0])), draw(READINGS), draw(st.booleans()),
        draw(st.sampled_from([0, 0, 1, 3, None])), draw(st.integers(0, 200)),
    )  # fmt: skip


@settings(max_examples=60, deadline=None)
@given(stage=STAGES, gate=GATES, steps=st.lists(happenings(), max_size=5), shares=st.lists(st.floats(0.0, 0.999)))
def test_no_moment_is_overlooked(stage, gate, steps, shares):
    world = MemoryWorld(make_bundle(gate=gate))
    if stage != "Logging":
        climb_to(world, stage)
    for seconds, readings, answers, exit_code, sessions in steps:
        world.now += seconds
        world.exit_code = exit_code
        counts = world.facts.counts
        world.count(sessions=counts.sessions + sessions, demonstrations=counts.demonstrations + sessions)
        since = world.now if not answers else 0.0
        servers = {name: EndpointFact(answers, fact.url, "", since) for name, fact in world.facts.endpoints.items()}
        world.facts = replace(world.facts, readings=readings, endpoints=servers, monitor=MonitorFact())
        _settle(world)
        _look_ahead(world, [0.5, *shares])


def _settle(world: MemoryWorld) -> None:
    """As a sweep does: decide again until a decision changes nothing."""
    for _ in range(30):
        before = without_counts(world.status.to_json())
        world.step()
        world.now -= 1.0
        if without_counts(world.status.to_json()) == before:
            return
    raise AssertionError("it never comes to rest")


def _look_ahead(world: MemoryWorld, shares: list[float]) -> None:
    wake = find_wake(world.bundle, world.status, world.facts.endpoints, world.now)
    assert world.now < wake <= world.now + 2 * ANYWAY_SECONDS
    now = decide_lifecycle(world.bundle, world.status, world.facts, world.now)
    for share in shares:
        later = decide_lifecycle(
            world.bundle, world.status, world.facts, world.now + share * (wake - MARGIN_SECONDS - world.now)
        )
        assert without_counts(later.status.to_json()) == without_counts(now.status.to_json())
        assert msgspec.json.encode(later.leave) == msgspec.json.encode(now.leave)
        assert (later.jobs, later.endpoints) == (now.jobs, now.endpoints)
