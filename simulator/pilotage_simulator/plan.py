"""What is to be played: process clusters by the domains of a dialogue, how fast, and where a process changes.

Types and reading only (JSON or YAML); pacer.py goes by it.
"""

from pathlib import Path

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.stage import Stage


class ChangePoint(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """From where on a process is the changed one (change.py).

    `at`: from this session of the process cluster on, counted from 1. Or `after_stage`: from `sessions` sessions after
    the controller (or, without one, the gateway) was first seen to hold the process cluster in that stage.
    """

    at: int | None = None
    after_stage: Stage | None = None
    sessions: int = 0


class Lane(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """Dialogues that become sessions of one process cluster, in the data's order.

    `process_cluster` is `namespace/name`. A dialogue belongs to the first lane all of whose `domains` hold all of its
    own; a lane without domains takes what is left. Rates are sessions a second: `fast` while sessions are wanted (None:
    no limit), `trickle` otherwise. `limit` bounds how many dialogues are played.
    """

    process_cluster: str
    domains: tuple[str, ...] = ()
    fast_per_second: float | None = None
    trickle_per_second: float = 1.0
    limit: int | None = None
    change: ChangePoint | None = None

    def takes(self, domains: tuple[str, ...]) -> bool:
        """Whether a dialogue of these domains belongs here."""
        return not self.domains or (bool(domains) and set(domains) <= set(self.domains))


class Plan(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The lanes in the order in which they take dialogues, and the shares that are assumptions.

    A demo plays on for `linger_seconds` at least once its walk is complete.
    """

    lanes: tuple[Lane, ...]
    concurrency: int = 16
    transfer_share: float = 0.03
    accept_later_probability: float = 0.7
    look_seconds: float = 2.0
    accept_seconds: float = 1.0
    linger_seconds: float = 0.0


def read_plan(path: Path) -> Plan:
    """The plan in `path`, JSON or YAML."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise InvalidInputError(f"cannot be read: {error.strerror}", where=str(path)) from error
    try:
        plan = (
            msgspec.yaml.decode(content, type=Plan)
            if path.suffix != ".json"
            else msgspec.json.decode(content, type=Plan)
        )
    except msgspec.DecodeError as error:
        raise InvalidInputError(str(error), where=str(path)) from error
    for lane in plan.lanes:
        if lane.trickle_per_second <= 0 or (lane.fast_per_second is not None and lane.fast_per_second <= 0):
            raise InvalidInputError(f"rates of {lane.process_cluster} are not above 0", where=f"{path}: lanes")
    if plan.concurrency < 1:
        raise InvalidInputError("concurrency is below 1", where=f"{path}: concurrency")
    return plan
