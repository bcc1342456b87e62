"""Status of PolicyCritics and gates, written after what it tells of: where a manifest or a process cluster changed.

Nothing waits for it. A resource that a whole fleet refers to is told of as often as that costs little.
"""

import logging
import time
from collections.abc import Mapping

from pilotage_core.errors import InvalidInputError, PilotageError
from pilotage_core.stage import Stage
from pilotage_operator.api.automation_gate import AutomationGateSpec
from pilotage_operator.api.policy_critic import PolicyCriticSpec
from pilotage_operator.api.reading import Object, read_spec
from pilotage_operator.api.referred import AutomationGateStatus, PolicyCriticStatus
from pilotage_operator.api.status import Condition, ProcessClusterStatus
from pilotage_operator.decide.referred import choose_listed, describe_gate, describe_policy_critic
from pilotage_operator.facts import Bundle
from pilotage_operator.held import Document, Holdings
from pilotage_operator.observe.world import Ref, Sighting, World
from pilotage_operator.permits import Authority
from pilotage_operator.writing import Writer

log = logging.getLogger(__name__)
A_SWEEP = 50
"""As many are told of in one sweep: after a restart all are looked at, and that is not to hold up anything."""
PAUSE_SECONDS = 5.0
"""One is told of again after so long at the earliest."""
KINDS = ("PolicyCritic", "AutomationGate")


class Referred:
    """Which process clusters refer to what, and what is still to be told of it."""

    def __init__(self, holdings: Holdings, world: World, authority: Authority) -> None:
        self._holdings = holdings
        self._world = world
        self._authority = authority
        self._writer: Writer[tuple[Sighting, Ref]] = Writer(self._write)
        self._refs: dict[str, tuple[Ref, Ref]] = {}
        self._users: dict[Ref, set[str]] = {}
        self._marked: set[Ref] = set()
        self._not_before: dict[Ref, float] = {}

    def note(self, bundle: Bundle) -> None:
        """Remember what a process cluster refers to."""
        spec, namespace = bundle.cluster, bundle.namespace
        names = (spec.policy_critic_ref.name, spec.gate_ref.name)
        refs = (KINDS[0], namespace, names[0]), (KINDS[1], namespace, names[1])
        if self._refs.get(bundle.key) != refs:
            self.forget(bundle.key)
            self._refs[bundle.key] = refs
            for ref in refs:
                self._users.setdefault(ref, set()).add(bundle.key)
            self._marked.update(refs)

    def forget(self, key: str) -> None:
        """The process cluster `key` is gone, or refers to something else."""
        for ref in self._refs.pop(key, ()):
            self._users[ref].discard(key)
            if not self._users[ref]:
                del self._users[ref]
            self._marked.add(ref)

    def mark(self, sighting: Sighting) -> None:
        """Remember which specs changed, whatever becomes of the sweep that saw it."""
        seen = sighting.referred
        self._marked |= {ref for ref in sighting.objects if ref[0] in KINDS} if seen is None else seen

    def tell(self, sighting: Sighting) -> None:
        """Have written what changed since; a part of it, where that is much."""
        for key in self._holdings.moved:
            self._marked.update(self._refs.get(key, ()))
        self._holdings.moved.clear()
        now = time.monotonic()
        due = [ref for ref in self._marked if self._not_before.get(ref, 0.0) <= now][: min(A_SWEEP, self._writer.room)]
        for ref in due:
            self._marked.discard(ref)
            self._not_before[ref] = now + PAUSE_SECONDS
            self._writer.put("/".join(ref), (sighting, ref))
        if len(self._not_before) > 2 * A_SWEEP:
            self._not_before = {ref: at for ref, at in self._not_before.items() if at > now}

    async def settle(self, seconds: float) -> None:
        """Wait until all that was begun is written, but no longer than that."""
        await self._writer.settle(seconds)

    async def close(self) -> None:
        """Write nothing more."""
        await self._writer.close()

    async def _write(self, _: str, given: tuple[Sighting, Ref]) -> None:
        sighting, ref = given
        item = sighting.objects.get(ref)
        if item is None or not self._authority.may_act():
            return
        try:
            document = self._describe(ref, item).to_json()
        except ValueError as error:  # a status that somebody else has written
            log.warning("the status of %s cannot be told: %s", "/".join(ref), error)
            return
        if Document.of(document) == Document.of(item.get("status") or {}):
            return
        try:
            await self._world.apply_referred(ref[0], item, document)
        except PilotageError as error:
            log.warning("the status of %s is not written yet: %s", "/".join(ref), error)
            self._marked.add(ref)

    def _describe(self, ref: Ref, item: Object) -> PolicyCriticStatus | AutomationGateStatus:
        generation = int(item["metadata"].get("generation", 1))
        stages, statuses = self._read_users(ref)
        said = tuple(Condition.model_validate(each) for each in (item.get("status") or {}).get("conditions", ()))
        spec = PolicyCriticSpec if ref[0] == KINDS[0] else AutomationGateSpec
        describe = describe_policy_critic if ref[0] == KINDS[0] else describe_gate
        return describe(generation, find_fault(spec, item, ref), stages, statuses, said, time.time())

    def _read_users(self, ref: Ref) -> tuple[Mapping[str, Stage], Mapping[str, ProcessClusterStatus]]:
        clusters = self._holdings.clusters
        found = {key.partition("/")[2]: clusters[key] for key in self._users.get(ref, ()) if key in clusters}
        stages = {name: cluster.stage for name, cluster in found.items()}
        return stages, {name: found[name].status for name in choose_listed(stages)}


def find_fault(spec: type[PolicyCriticSpec] | type[AutomationGateSpec], item: Object, ref: Ref) -> str:
    """What is wrong with the spec of `item`; empty where nothing is."""
    try:
        read_spec(spec, item.get("spec"), f"{ref[0]} {ref[1]}/{ref[2]}")
    except InvalidInputError as error:
        return str(error)
    return ""
