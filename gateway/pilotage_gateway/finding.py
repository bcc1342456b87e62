"""The live session behind an id: in memory, rebuilt from the records, or begun by its first event."""

from functools import partial

from pilotage_core.events import SessionOpened
from pilotage_core.source import Source, session_of
from pilotage_core.walk import SessionWalk
from pilotage_core.wire import PostEvents
from pilotage_gateway import asking, writes
from pilotage_gateway.permits import Permits
from pilotage_gateway.problems import UnknownError
from pilotage_gateway.queries import read_session
from pilotage_gateway.sessions import LiveSession, LiveSessions, rebuild
from pilotage_gateway.store import Store


async def find_session(live: LiveSessions, store: Store, permits: Permits, key: str) -> LiveSession | None:
    """The session with this key; None where there is none."""
    session = live.find(key)
    if session is None:
        stored = await store.read(partial(read_session, session_id=key))
        if stored is not None:
            form = asking.find_form(permits.leave_of(stored.record.process_cluster))
            session = live.keep(rebuild(stored, form))
    return session


def begin_session(live: LiveSessions, permits: Permits, key: str, post: PostEvents, source: Source) -> LiveSession:
    """A session that `post` opens. Raises UnknownError where it does not."""
    first = post.events[0] if post.events else None
    if first is None or first.sequence != 0:
        raise UnknownError(
            f"session {session_of(key)} is unknown", where="session_id", remedy="begin with session_opened"
        )
    metadata = first.data.metadata if isinstance(first.data, SessionOpened) else {}
    leave = permits.find_leave(metadata, source)
    walk = SessionWalk(asking.find_form(leave))
    return live.keep(LiveSession(key, leave.key if leave else "", writes.utc_now(), walk))
