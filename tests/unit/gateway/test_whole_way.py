"""The second search for an unsafe execution, over the whole way (tests/search/whole_way.py says how)."""

import os

from hypothesis import HealthCheck, settings
from hypothesis.stateful import run_state_machine_as_test
from search import whole_way

EXAMPLES = int(os.environ.get("SEARCH_EXAMPLES", "120"))
STEPS = int(os.environ.get("SEARCH_STEPS", "50"))
SETTINGS = settings(
    max_examples=EXAMPLES, stateful_step_count=STEPS, deadline=None, suppress_health_check=list(HealthCheck)
)


def test_nothing_unsafe_runs_on_the_whole_way_from_the_bytes_to_the_bpm():
    whole_way.SEEN.clear()
    run_state_machine_as_test(whole_way.WholeWay, settings=SETTINGS)
    seen = whole_way.SEEN
    print(dict(seen.most_common()))
    for what in (
        "critical ran: click_control",
        "uncritical ran",
        "order by operator",
        "propose",
        "hand_off",
        "observe",
    ):
        assert seen[what] > 0, f"the search never saw: {what}"
