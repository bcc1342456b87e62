"""Another τ over recorded proposals: what would have run, and how right it was."""

import pytest
from stubs.run_records import proposal, session, verdict

from pilotage.replay import describe, replay
from pilotage_core.events import Verdict

RECORDS = (
    session(
        "s1", 0,
        (proposal("a", score=0.9), proposal("b", score=0.8), proposal("c", score=0.7), proposal("d", score=None)),
        verdict("a", Verdict.ACCEPT), verdict("b", Verdict.REJECT), verdict("d", Verdict.ACCEPT),
    ),
)  # fmt: skip


@pytest.mark.parametrize(
    ("tau", "above", "judged", "accepted"), [(0.95, 0, 0, 0), (0.85, 1, 1, 1), (0.75, 2, 2, 1), (0.0, 3, 2, 1)]
)
def test_what_another_threshold_would_have_done(tau, above, judged, accepted):
    (line,) = replay(RECORDS, tau)
    assert (line.scored, line.above, line.judged, line.accepted) == (3, above, judged, accepted)


def test_nothing_scored_is_said():
    assert describe((), 0.5) == "  nothing was scored"
    assert "1 of 3 scored proposals would have run (33.3%)" in describe(RECORDS, 0.85)
