"""What happens in a session, written down as the record it would have left: one event after the other, with times."""

import uuid
from datetime import datetime, timedelta

from pilotage_core.events import Event, Happening
from pilotage_core.record import SessionRecord

NAMESPACE = uuid.UUID("6f1c5d3e-9a55-4a0b-8f7e-3f3f0d3f9f7b")
"""Event ids are made of it and the session: the same session gives the same record."""


def may_close_within(begins: datetime, ends: datetime, since: str, until: str) -> bool:
    """Whether a session that lies in [begins, ends] can have closed in [since, until) (RFC 3339; empty: any time)."""
    is_over = bool(since) and ends < datetime.fromisoformat(since)
    return not is_over and not (until and begins >= datetime.fromisoformat(until))


class SessionLog:
    """Events in the order they happen. The clock only goes forward, from `begins` to `latest` (None: no end)."""

    def __init__(self, session_id: str, begins: datetime, latest: datetime | None = None) -> None:
        self._session_id = session_id
        self._now = begins
        self._latest = latest
        self.events: list[Event] = []

    def reach(self, time: datetime) -> None:
        """It is `time` at least."""
        self._set(max(self._now, time))

    def wait(self, seconds: float) -> None:
        """Let time pass."""
        self._set(self._now + timedelta(seconds=seconds))

    def _set(self, time: datetime) -> None:
        self._now = min(time, self._latest) if self._latest else time

    def add(self, data: Happening) -> None:
        """It happens now."""
        number = len(self.events)
        identity = str(uuid.uuid5(NAMESPACE, f"{self._session_id}:{number}"))
        self.events.append(Event(identity, number, self._now.isoformat(), data))

    def record(self, process_cluster: str) -> SessionRecord:
        """The session that ended now."""
        return SessionRecord(
            session_id=self._session_id,
            process_cluster=process_cluster,
            opened_at=self.events[0].at,
            events=tuple(self.events),
            closed_at=self._now.isoformat(),
        )
