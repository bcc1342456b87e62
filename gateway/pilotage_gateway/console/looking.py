"""The console's pages to look at: signing in, process clusters, decisions, the ledger; and a supervisor's hold."""

from functools import partial

import msgspec
from sqlalchemy import ColumnElement, Connection, func, select
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response
from starlette.routing import Route

from pilotage_core.errors import ConflictError, InvalidInputError
from pilotage_core.explaining import explain_decision
from pilotage_core.gate import Decision
from pilotage_core.record import Label
from pilotage_core.wire import Leave
from pilotage_gateway import queries, writes
from pilotage_gateway import tables as t
from pilotage_gateway.access import Act
from pilotage_gateway.asking import effective_stage
from pilotage_gateway.console import entering, words
from pilotage_gateway.console.curves import find_curve
from pilotage_gateway.console.entering import HOME, Person, find_person
from pilotage_gateway.console.pages import find_board, read_form
from pilotage_gateway.console.showing import give_page, show_errors
from pilotage_gateway.intake import check_session_id
from pilotage_gateway.lists import is_within
from pilotage_gateway.problems import UnknownError
from pilotage_gateway.queries import DECODE_LABEL
from pilotage_gateway.reading import find_turns, read_number
from pilotage_gateway.reads import ROWS as READS

HELD = "console: "
"""Before the name of whoever holds a process cluster from here: what others stopped is not let go on here."""
LABELS_DRAWN = 5_000
MOST_ROWS = 1 << 62
ROWS = 100


# --- signing in ------------------------------------------------------------------------------------------------------
@show_errors
async def get_sign_in(request: Request) -> Response:
    """`GET /console/sign-in?issuer=`: how to sign in here, or off to the issuer."""
    callers = request.app.state.callers
    issuers = entering.list_issuers(callers)
    chosen = request.query_params.get("issuer", "")
    if chosen:
        issuer = next((each for each in issuers if each.issuer == chosen), None)
        if issuer is None:
            raise UnknownError("nobody signs in with that issuer here", where="issuer")
        return await entering.begin(request, issuer)
    return give_page(request, "sign_in.html", None, issuers=issuers, asks=callers.knows_anybody)


@show_errors
async def post_sign_in(request: Request) -> Response:
    """`POST /console/sign-in`: a token that one has, or, where nobody is asked for one, a name."""
    entering.check_origin(request)
    form = await read_form(request)
    if request.app.state.callers.knows_anybody:
        token = form.get("token", "").strip()
        await request.app.state.callers.identify(f"Bearer {token}")
        return entering.show(request, token)
    return entering.name_oneself(request, form.get("name", "").strip())


@show_errors
async def get_signed_in(request: Request) -> Response:
    """`GET /console/signed-in`: back from the issuer."""
    return await entering.finish(request)


@show_errors
async def post_sign_out(request: Request) -> Response:
    """`POST /console/sign-out`."""
    entering.check_origin(request)
    return entering.leave()


# --- decisions -------------------------------------------------------------------------------------------------------
@show_errors
async def get_decision(request: Request) -> Response:
    """`GET /console/decisions/{proposal_id}`: why it did, or did not, act by itself: each line of the gate."""
    person = await find_person(request)
    person.caller.require_somewhere(Act.READ_DECISIONS)
    proposal_id, where = check_session_id(request.path_params["proposal_id"]), person.caller.where(Act.READ_DECISIONS)
    job = partial(queries.read_decision, proposal_id=proposal_id, namespaces=where)
    found = await find_turns(request).store.read(job)
    if found is None:
        raise UnknownError(f"proposal {proposal_id[:80]} is unknown", where="proposal_id")
    record, former, digest = found
    await find_turns(request).reads.note(person.name, "decision", proposal_id)
    values = {"record": record, "former": former, "digest": digest, "lines": explain_decision(record)}
    return give_page(request, "decision.html", person, **values, band=words.find_band(record))


class Line(msgspec.Struct, frozen=True):
    """A decision in a list: blind like every other place, for what waits for its verdict is left out."""

    number: int
    at: str
    session_id: str
    proposal_id: str
    process_cluster: str
    stage: str
    decision: str
    reason: str


@show_errors
async def get_ledger(request: Request) -> Response:
    """`GET /console/ledger?process_cluster=&session=&before=`: decisions, newest first, for who may read them."""
    person = await find_person(request)
    person.caller.require_somewhere(Act.SEARCH)
    query = request.query_params
    if not all(value.isprintable() for value in query.values()):
        raise InvalidInputError("this is no name", where="query")
    job = partial(
        read_lines,
        namespaces=person.caller.where(Act.SEARCH),
        process_cluster=query.get("process_cluster", "")[:300],
        session_id=query.get("session", "")[:300],
        before=read_number(request, "before", 0, MOST_ROWS),
    )
    lines = await find_turns(request).store.read(job)
    await find_turns(request).reads.note(
        person.name, "ledger", job.keywords["session_id"] or job.keywords["process_cluster"]
    )
    return give_page(request, "ledger.html", person, lines=lines, query=dict(query), more=len(lines) == ROWS)


@show_errors
async def get_reads(request: Request) -> Response:
    """`GET /console/reads?who=&what=&before=`: who read what, newest first: for who may read everything everywhere."""
    person = await find_person(request)
    person.caller.require(Act.SEARCH)
    query = request.query_params
    if not all(value.isprintable() for value in query.values()):
        raise InvalidInputError("this is no name", where="query")
    before = read_number(request, "before", 0, MOST_ROWS)
    rows = await find_turns(request).reads.list(query.get("who", "")[:300], query.get("what", "")[:300], before)
    return give_page(request, "reads.html", person, rows=rows, query=dict(query), more=len(rows) == READS)


def read_lines(
    connection: Connection, namespaces: frozenset[str] | None, process_cluster: str, session_id: str, before: int
) -> list[Line]:
    """Decisions of these namespaces, newest first; none that waits for its verdict."""
    d = t.decisions.c
    told = select(t.labels.c.number).where(t.labels.c.proposal_id == d.proposal_id).exists()
    closed = select(t.sessions.c.closed_at).where(t.sessions.c.session_id == d.session_id).scalar_subquery()
    wanted: list[ColumnElement[bool]] = [(d.decision != Decision.PROPOSE.value) | told | (closed != "")]
    wanted += [d.process_cluster == process_cluster] * bool(process_cluster)
    wanted += [d.session_id == session_id] * bool(session_id)
    wanted += [d.number < before] * bool(before)
    wanted += is_within(d.process_cluster, namespaces)
    columns = (d.number, d.at, d.session_id, d.proposal_id, d.process_cluster, d.stage, d.decision, d.reason)
    rows = connection.execute(select(*columns).where(*wanted).order_by(d.number.desc()).limit(ROWS))
    return [Line(*row) for row in rows]


# --- process clusters ------------------------------------------------------------------------------------------------
@show_errors
async def get_process_clusters(request: Request) -> Response:
    """`GET /console/process-clusters`: what each may do now, and who waits in it."""
    person = await find_person(request)
    person.caller.require_somewhere(Act.READ_STATUS)
    turns, board = find_turns(request), find_board(request)
    leaves = turns.permits.snapshot.leaves if turns.permits.snapshot is not None else ()
    waiting: dict[str, list[str]] = {}
    for row in board.rows.values():
        waiting.setdefault(row.process_cluster, []).append(row.since)
    rows = [
        {
            "leave": leave,
            "stage": effective_stage(leave, turns.permits.remaining_of(leave) > 0),
            "suspended": leave.suspended or turns.suspended.holds(leave.key),
            "waiting": len(waiting.get(leave.key, ())),
            "oldest": min(waiting.get(leave.key, ()), default=""),
        }
        for leave in sorted(leaves, key=lambda leave: leave.key)
        if person.caller.may(Act.READ_STATUS, leave.namespace)
    ]
    return give_page(request, "process_clusters.html", person, rows=rows, withheld=turns.permits.withheld)


@show_errors
async def get_process_cluster(request: Request) -> Response:
    """`GET /console/process-clusters/{namespace}/{name}`: stages, certificates, risk against coverage."""
    person = await find_person(request)
    leave = _find_leave(request, person)
    turns = find_turns(request)
    pair = leave.pair.revision if leave.pair is not None else ""
    labels = await turns.store.read(partial(read_newest_labels, process_cluster=leave.key, pair=pair))
    stages = await turns.store.read(partial(read_stages, process_cluster=leave.key))
    held = await turns.store.read(partial(read_hold, process_cluster=leave.key))
    held = held or await turns.store.read(partial(read_hold, process_cluster=writes.ALL))
    strata = sorted({label.stratum for label in labels if label.stratum})
    return give_page(
        request,
        "process_cluster.html",
        person,
        leave=leave,
        stage=effective_stage(leave, turns.permits.remaining_of(leave) > 0),
        stages=stages,
        curves={stratum: find_curve([each for each in labels if each.stratum == stratum]) for stratum in strata},
        labels=len(labels),
        held=held,
        is_held_here=held is not None and held[0].startswith(HELD),
        stopped=leave.suspended or turns.suspended.holds(leave.key),
        may_hold=person.caller.may(Act.STOP, leave.namespace),
        waiting=[row for row in find_board(request).list_waiting(None) if row.process_cluster == leave.key],
    )


def _find_leave(request: Request, person: Person) -> Leave:
    key = f"{request.path_params['namespace']}/{request.path_params['name']}"
    leave = find_turns(request).permits.leave_of(key)
    if leave is None or not person.caller.may(Act.READ_STATUS, leave.namespace):
        raise UnknownError(f"process cluster {key[:200]} is unknown", where="path")
    return leave


def read_newest_labels(connection: Connection, process_cluster: str, pair: str) -> list[Label]:
    """The newest labels of a pair, with their scores: verdicts that are in."""
    c = t.labels.c
    mine = (c.process_cluster == process_cluster, c.pair == pair)
    rows = connection.execute(select(c.body).where(*mine).order_by(c.number.desc()).limit(LABELS_DRAWN)).scalars()
    return [DECODE_LABEL(body) for body in rows]


def read_stages(connection: Connection, process_cluster: str) -> list[tuple[str, str, str, str, int]]:
    """Stage and pair with the first and last decision made in them, and how many: this gateway's own timeline."""
    d = t.decisions.c
    rows = connection.execute(
        select(d.stage, d.pair, func.min(d.at), func.max(d.at), func.count())
        .where(d.process_cluster == process_cluster)
        .group_by(d.stage, d.pair)
        .order_by(func.min(d.at).desc())
        .limit(50)
    )
    return [(row[0], row[1], row[2], row[3], row[4]) for row in rows]


def read_hold(connection: Connection, process_cluster: str) -> tuple[str, str, str] | None:
    """Who stopped a process cluster at this gateway, why, and when; None where nobody has."""
    s = t.suspensions.c
    row = connection.execute(
        select(s.who, s.why, s.at).where(s.process_cluster == process_cluster, s.suspended)
    ).first()
    return None if row is None else (row.who, row.why, row.at)


@show_errors
async def post_hold(request: Request) -> Response:
    """`POST /console/process-clusters/{namespace}/{name}/hold`: hold it, or let go what is held from here."""
    person = await find_person(request)
    form = await read_form(request)
    leave = _find_leave(request, person)
    person.caller.require(Act.STOP, leave.namespace)
    turns, hold = find_turns(request), form.get("hold") == "true"
    why = form.get("why", "").strip()
    if hold and not why:
        raise InvalidInputError("why?", where="why", remedy="say it in a few words: others will read it")
    if hold:
        turns.suspended.note(leave.key, True)
    write = partial(write_hold, process_cluster=leave.key, who=f"{HELD}{person.name}", why=why[:500], hold=hold)
    await turns.store.write(write)
    turns.suspended.note(leave.key, hold)
    return RedirectResponse(f"{HOME}/process-clusters/{leave.key}", 303)


def write_hold(connection: Connection, process_cluster: str, who: str, why: str, hold: bool) -> None:
    """Raises ConflictError where somebody stopped it elsewhere: their stop is not ours to end."""
    held = read_hold(connection, process_cluster)
    if held is not None and not held[0].startswith(HELD):
        raise ConflictError(f"{held[0]} stopped it: {held[1]}", where="hold", remedy="ask them to let it go on")
    writes.write_suspension(connection, process_cluster, hold, who, why or "let go", writes.utc_now())


ROUTES = [
    Route(f"{HOME}/sign-in", get_sign_in),
    Route(f"{HOME}/sign-in", post_sign_in, methods=["POST"]),
    Route(f"{HOME}/signed-in", get_signed_in),
    Route(f"{HOME}/sign-out", post_sign_out, methods=["POST"]),
    Route(HOME + "/decisions/{proposal_id}", get_decision),
    Route(f"{HOME}/ledger", get_ledger),
    Route(f"{HOME}/reads", get_reads),
    Route(f"{HOME}/process-clusters", get_process_clusters),
    Route(HOME + "/process-clusters/{namespace}/{name}", get_process_cluster),
    Route(HOME + "/process-clusters/{namespace}/{name}/hold", post_hold, methods=["POST"]),
]
