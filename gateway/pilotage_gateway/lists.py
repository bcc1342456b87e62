"""Lists of what is there: sessions, cards that wait for an operator, and what operators said of them at the console.

A page at a time, oldest first, blind.
"""

from collections.abc import Iterable
from functools import partial

from sqlalchemy import ColumnElement, Connection, false, func, or_, select
from starlette.requests import Request
from starlette.responses import Response

from pilotage_core.errors import InvalidInputError
from pilotage_core.gate import Decision
from pilotage_core.lists import CardPage, SessionPage, SessionSummary, WaitingCard
from pilotage_gateway import tables as t
from pilotage_gateway.access import Act, Caller, ForbiddenError, namespace_of
from pilotage_gateway.intake import check_session_id
from pilotage_gateway.queries import DECODE_PROPOSAL, has_moved
from pilotage_gateway.reading import MOST_AT_ONCE, answer_json, find_caller, find_turns, read_number

AT_ONCE = 100
CARDS = 300
"""Of a page at most: whether a state has moved on is told from its events."""
LONGEST_WAIT_SECONDS = 30
SEPARATOR = " "
"""Between the parts of a cursor: neither times nor ids have one."""


async def get_sessions(request: Request) -> Response:
    """`GET /v1/sessions?process_cluster=&state=&after=&limit=`: SessionPage; `state` is open (default) or closed."""
    within, _ = await _find_scope(request)
    state = request.query_params.get("state", "open")
    if state not in ("open", "closed"):
        raise InvalidInputError(f"{state[:64]!r} is neither open nor closed", where="state")
    job = partial(read_sessions, within=within, closed=state == "closed", after=_after(request), limit=_limit(request))
    return answer_json(await find_turns(request).store.read(job))


async def get_cards(request: Request) -> Response:
    """`GET /v1/cards?process_cluster=&after=&limit=`: CardPage, of open sessions whose state has not moved on."""
    within, caller = await _find_scope(request)
    await find_turns(request).reads.note(caller.name, "cards", request.query_params.get("process_cluster", ""))
    job = partial(
        read_cards, within=within, after=request.query_params.get("after", ""), limit=min(CARDS, _limit(request))
    )
    return answer_json(await find_turns(request).store.read(job))


async def get_answers(request: Request) -> Response:
    """`GET /v1/answers?session_id=&after=&wait=`: AnswerPage, for the adapter whose sessions they are of.

    `wait` is how many seconds to wait for one.
    """
    caller = await find_caller(request)
    if caller.source is None:
        raise ForbiddenError(
            f"{caller.name} is no source of sessions", where="Authorization", remedy="send a source's credential"
        )
    session_id = request.query_params.get("session_id", "")
    if session_id:
        check_session_id(session_id)
    after = read_number(request, "after", 0, 1 << 62)
    wait = read_number(request, "wait", 0, LONGEST_WAIT_SECONDS)
    return answer_json(await find_turns(request).answers.fetch(caller.source, session_id, after, wait))


Scope = str | frozenset[str] | None
"""One process cluster; or all those of some namespaces; or all (None)."""


async def _find_scope(request: Request) -> tuple[Scope, Caller]:
    caller: Caller = await find_caller(request)
    key = request.query_params.get("process_cluster", "")
    if key or not caller.may_somewhere(Act.READ_SESSIONS):
        caller.require(Act.READ_SESSIONS, namespace_of(key))
    return key or caller.where(Act.READ_SESSIONS), caller


def _limit(request: Request) -> int:
    return max(1, read_number(request, "limit", AT_ONCE, MOST_AT_ONCE))


def _after(request: Request) -> tuple[str, str] | None:
    given = request.query_params.get("after", "")
    if not given:
        return None
    first, separator, second = given.partition(SEPARATOR)
    if not separator or not second or len(given) > 400:
        raise InvalidInputError(f"{given[:64]!r} is no cursor", where="after", remedy="send `next` of a page as it is")
    return first, second


def is_within(column: ColumnElement[str], scope: Scope) -> Iterable[ColumnElement[bool]]:
    """That the process cluster in `column` is one of `scope`."""
    if scope is None:
        return ()
    if isinstance(scope, str):
        return (column == scope,)
    return (or_(false(), *(func.substr(column, 1, len(name) + 1) == f"{name}/" for name in sorted(scope))),)


def read_sessions(
    connection: Connection, within: Scope, closed: bool, after: tuple[str, str] | None, limit: int
) -> SessionPage:
    """At most `limit` sessions after the cursor, by when they were opened and then by id."""
    s = t.sessions.c
    wanted = [s.closed_at != "" if closed else s.closed_at == "", *is_within(t.sessions.c.process_cluster, within)]
    if after is not None:
        wanted.append(or_(s.opened_at > after[0], (s.opened_at == after[0]) & (s.session_id > after[1])))
    rows = connection.execute(
        select(s.session_id, s.process_cluster, s.opened_at, s.closed_at, s.handed_off)
        .where(*wanted)
        .order_by(s.opened_at, s.session_id)
        .limit(limit + 1)
    ).all()
    found = tuple(SessionSummary(*row) for row in rows[:limit])
    more = len(rows) > limit
    return SessionPage(found, f"{found[-1].opened_at}{SEPARATOR}{found[-1].session_id}" if more else "")


def read_cards(connection: Connection, within: Scope, after: str, limit: int) -> CardPage:
    """At most `limit` cards that wait, of proposals after the one with id `after`: ids are in the order of time."""
    s, p = t.sessions.c, t.proposals.c
    told = select(t.labels.c.number).where(t.labels.c.proposal_id == p.proposal_id).exists()
    ordered = select(t.intents.c.proposal_id).where(t.intents.c.proposal_id == p.proposal_id).exists()
    rows = connection.execute(
        select(p.session_id, p.process_cluster, p.at_version, p.body)
        .join(t.sessions, s.session_id == p.session_id)
        .where(s.closed_at == "", p.decision == Decision.PROPOSE.value, ~told, ~ordered, p.proposal_id > after)
        .where(*is_within(t.sessions.c.process_cluster, within))
        .order_by(p.proposal_id)
        .limit(limit + 1)
    ).all()
    found = [(row, DECODE_PROPOSAL(row.body)) for row in rows[:limit]]
    cards = tuple(
        WaitingCard(proposal.proposal_id, row.session_id, row.process_cluster, proposal.at, proposal.action)
        for row, proposal in found
        if not has_moved(connection, row.session_id, row.at_version)
    )
    return CardPage(cards, found[-1][1].proposal_id if len(rows) > limit else "")
