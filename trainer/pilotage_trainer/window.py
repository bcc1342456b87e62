"""Which sessions a Job may see, which of them it may learn from, and how it describes what it makes of them.

Not here: the Jobs themselves (backends/, certify/).
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import msgspec

from pilotage_core.dialog import DialogFormat
from pilotage_core.errors import EvidenceError, InvalidInputError
from pilotage_core.record import SessionRecord
from pilotage_trainer.artefact import Maker, Manifest, artefact_folder, digest_bytes
from pilotage_trainer.config import JobConfig, encode_config
from pilotage_trainer.failures import DamagedArtefactError
from pilotage_trainer.results import tell
from pilotage_trainer.sessions.export import (
    closed_after,
    closed_by,
    read_export,
    read_time,
    require_times,
    split_by_time,
)

LEAST_SESSIONS = 10


@dataclass(frozen=True)
class Window:
    """Sessions closed in [since, until), and where what is made of them goes.

    `held_out_after` keeps all newer sessions out of training; without it the newest `held_out_share` is kept out. After
    a rollback `fresh_after` is its time.
    """

    export: str
    process_cluster: str
    revision: str
    out: Path
    since: str = ""
    until: str = ""
    fresh_after: str = ""
    held_out_after: str = ""
    held_out_share: float = 0.0

    def __post_init__(self) -> None:
        """Raises InvalidInputError for what cannot be meant."""
        names = self.process_cluster.split("/")
        if len(names) != 2 or not all(name.strip(".") for name in names):
            raise InvalidInputError(f"{self.process_cluster!r} is not namespace/name", where="--process-cluster")
        if not self.revision or "/" in self.revision or self.revision.startswith("."):
            raise InvalidInputError(f"{self.revision!r} is no revision name", where="--revision")
        if not 0.0 <= self.held_out_share < 1.0:
            raise InvalidInputError(f"{self.held_out_share} is not in [0, 1)", where="--held-out-share")
        times = {"since": self.since, "until": self.until, "fresh_after": self.fresh_after}
        require_times(**times, held_out_after=self.held_out_after)

    def folder(self, phase: str) -> Path:
        """Where the artefact of `phase` is."""
        return artefact_folder(self.out, self.process_cluster, self.revision, phase)

    def require_own(self, made: Manifest) -> None:
        """Raises DamagedArtefactError where `made` is of another process cluster or revision: a folder was moved."""
        found, wanted = (made.process_cluster, made.revision), (self.process_cluster, self.revision)
        if found != wanted:
            raise DamagedArtefactError(
                f"is of {' '.join(found)}, not {' '.join(wanted)}", where=f"{made.kind} {made.digest}"
            )

    def read(self, most: int = 0, since: str = "") -> list[SessionRecord]:
        """The window's sessions, by closing time; with `most` only the newest that many (the rolling window).

        With `since` only those that closed from then on: an export is as long as its sessions.
        """
        begin = max((time for time in (self.since, since) if time), key=read_time, default="")
        records = read_export(self.export, self.process_cluster, begin, self.until)
        kept = records[-most:] if most else records
        left_out = f", {len(records) - len(kept)} older ones left out" if len(kept) < len(records) else ""
        tell(f"{len(kept)} sessions of {self.process_cluster}{left_out}")
        return kept

    def hold_out(self, records: Sequence[SessionRecord]) -> tuple[list[SessionRecord], list[SessionRecord]]:
        """`records` in those to learn from and those held out.

        After a rollback the share is of the fresh ones, so that what is held out is newer than the rollback.
        """
        if self.held_out_after:
            return closed_by(records, self.held_out_after), closed_after(records, self.held_out_after)
        stale = closed_by(records, self.fresh_after) if self.fresh_after else []
        fresh = closed_after(records, self.fresh_after) if self.fresh_after else list(records)
        kept, held_out = split_by_time(fresh, self.held_out_share)
        if kept and held_out:  # sessions that closed in the same moment stay together: on the training side
            last = kept[-1].closed_at
            kept, held_out = closed_by(fresh, last), closed_after(fresh, last)
        return stale + kept, held_out

    def describe(
        self,
        kind: str,
        config: JobConfig,
        records: Sequence[SessionRecord],
        dialog: DialogFormat,
        maker: Maker,
        policy: Manifest | None = None,
        critic: Manifest | None = None,
    ) -> Manifest:
        """The manifest of what was made of `records` (by closing time), for a policy or a pair where there is one.

        `dialog` is how they were read, `maker` whose code reads it.
        """
        ends = [records[-1].closed_at] if records else []
        starts = [records[0].closed_at] if records else []
        if kind == "critic" and policy is not None:  # it knows what its policy knows
            ends, starts = [*ends, policy.trained_until], [*starts, policy.trained_since]
        return Manifest(
            kind=kind,
            process_cluster=self.process_cluster,
            revision=self.revision,
            backend=maker.backend,
            data=digest_records(records),
            config=digest_bytes(encode_config(config)),
            prompt_format=dialog.digest,
            code=maker.code,
            files={},
            dialog=dialog,
            trained_since=min(starts, key=read_time, default=""),
            trained_until=max(ends, key=read_time, default=""),
            policy=policy.digest if policy else "",
            critic=critic.digest if critic else "",
        )


def digest_records(records: Sequence[SessionRecord]) -> str:
    """Identity of sessions as they were exported."""
    return digest_bytes(b"\n".join(msgspec.json.encode(record) for record in records))


def require_sessions(records: Sequence[SessionRecord], what: str) -> None:
    """Raises EvidenceError where there are too few sessions for `what`."""
    if len(records) < LEAST_SESSIONS:
        raise EvidenceError(
            f"{len(records)} sessions are too few {what}",
            where="window",
            remedy=f"at least {LEAST_SESSIONS} are needed: widen the window or wait",
        )


def build_digests(manifest: Manifest) -> dict[str, str]:
    """What a JobResult tells of an artefact beside its own digest."""
    return {
        "data": manifest.data,
        "config": manifest.config,
        "prompt_format": manifest.prompt_format,
        "code": manifest.code,
    }
