"""A snapshot in parts: what is put together from them is what was published, whatever changed in between."""

import msgspec
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.screen import ScreenSchema
from pilotage_core.snapshot import DECODE_PART, PARTS, Parts, Snapshot, assemble, digest_part, digest_snapshot
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave

SCREENS = [(), (ScreenSchema("form", "form"),), (ScreenSchema("form", "form"), ScreenSchema("list", "table"))]
leaves = st.builds(
    Leave,
    name=st.sampled_from([f"n{i}" for i in range(12)]),
    namespace=st.sampled_from(["a", "b"]),
    stage=st.sampled_from(Stage),
    priority=st.integers(0, 2),
    screens=st.sampled_from(SCREENS),
)
steps = st.lists(st.one_of(leaves, st.sampled_from([f"a/n{i}" for i in range(12)])), max_size=40)


@given(steps)
def test_what_gateways_put_together_is_what_was_last_put_and_its_digest_tells_of_nothing_else(done):
    parts, wanted = Parts(), {}
    held = dict(enumerate(parts.bodies))
    for step in done:
        if isinstance(step, Leave):
            parts.put(step)
            wanted[step.key] = step
        else:
            parts.drop(step)
            wanted.pop(step, None)
        before = list(parts.digests)
        changed = parts.settle()
        assert changed == (parts.digests != before)
        held |= {n: parts.bodies[n] for n in range(PARTS) if parts.digests[n] != before[n]}
    told = assemble(DECODE_PART(held[n]) for n in range(PARTS))
    assert told == Snapshot(tuple(sorted(wanted.values(), key=lambda leave: (-leave.priority, leave.key))))
    assert parts.digest == Snapshot(tuple(wanted.values())).digest
    assert parts.digest == digest_snapshot([digest_part(held[n]) for n in range(PARTS)])


def test_screens_that_many_share_travel_once():
    schema = ScreenSchema("form", "form" * 1000)
    parts = Parts(Leave(f"n{i}", "a", Stage.LOGGING, screens=(schema,)) for i in range(200))
    assert sum(body.count(b"formform") > 0 for body in parts.bodies) == 1
    assert sum(map(len, parts.bodies)) < 30_000


def test_one_change_touches_one_part():
    parts = Parts(Leave(f"n{i}", "a", Stage.AUTOMATION) for i in range(1000))
    before = list(parts.digests)
    parts.put(msgspec.structs.replace(Leave("n7", "a", Stage.AUTOMATION), stage=Stage.COPILOT))
    assert parts.settle()
    assert sum(now != was for now, was in zip(parts.digests, before, strict=True)) == 1


def test_a_leave_whose_screens_are_not_there_reads_nothing():
    leave = Leave("n", "a", Stage.AUTOMATION, screens=SCREENS[1])
    bodies = Parts([leave]).bodies
    without = [body for body in bodies if b'"screens":{' not in body]
    assert assemble(map(DECODE_PART, without)).leaves in ((), (msgspec.structs.replace(leave, screens=()),))
