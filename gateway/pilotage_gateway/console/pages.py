"""The console's pages for work: the queue, a session, an answer to its card, and the stream that says what has moved.

Each works as a plain form too; htmx swaps in the part that changed. Before a verdict nothing here tells score, reason
or audit. What a page may show or do is asked of access.py like any request.
"""

import asyncio
from collections.abc import AsyncIterator
from functools import partial
from urllib.parse import parse_qsl

import msgspec
from markupsafe import Markup
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response, StreamingResponse
from starlette.routing import Route

from pilotage_core.actions import ActionRules
from pilotage_core.errors import ConflictError, InvalidInputError, PilotageError
from pilotage_core.events import Grade, ReviewItem, Verdict
from pilotage_core.lists import Answer
from pilotage_core.proposal import fill_text
from pilotage_core.source import session_of
from pilotage_gateway import queries, writes
from pilotage_gateway.access import Act, namespace_of
from pilotage_gateway.console import words
from pilotage_gateway.console.board import Board, Shared, event_of
from pilotage_gateway.console.entering import HOME, Person, find_person
from pilotage_gateway.console.showing import give_fragment, give_page, is_fragment, render, show_errors
from pilotage_gateway.intake import read_stream
from pilotage_gateway.problems import TooLargeError, UnknownError
from pilotage_gateway.reading import find_turns
from pilotage_gateway.sessions import LiveSession
from pilotage_gateway.turns import Turns

ROWS_SHOWN = 50
MAX_FORM_BYTES = 256 << 10
"""A reply of a megabyte is a slip of somebody's clipboard, and no customer's screen shows it."""
LONGEST_TEXT = 20_000
BEAT_SECONDS, QUEUE_SECONDS = 15.0, 1.0
PAUSE_SECONDS = 0.2
"""Between two looks of one stream: what moves meanwhile is told together."""


def find_board(request: Request) -> Board:
    """The picture of who waits. Raises UnavailableError where this gateway stands by."""
    find_turns(request)
    board: Board = request.app.state.board
    return board


# --- the queue -------------------------------------------------------------------------------------------------------
@show_errors
async def get_home(request: Request) -> Response:
    """`GET /console/`: the queue, and the first session of one's own."""
    person = await find_person(request)
    person.caller.require_somewhere(Act.READ_SESSIONS)
    board = find_board(request)
    await find_turns(request).reads.note(person.name, "queue", "")
    if "queue" not in request.query_params:
        for each in _list_mine(board, person):
            session = await find_turns(request).find(str(each["key"]))
            if session is not None and person.caller.may(Act.READ_SESSIONS, namespace_of(session.process_cluster)):
                return _go(request, session.session_id)
    return give_page(request, "home.html", person, **_queue(board, person), session=None)


def _queue(board: Board, person: Person, key: str = "") -> dict[str, object]:
    queue = Markup(_render_queue(board, person, key).html)
    return {"queue": queue, "open_key": key, "mark": board.mark(board.revision)}


def _render_queue(board: Board, person: Person, key: str) -> Shared:
    """The queue: what is one's own, and what waits, which all who see the same namespaces share."""
    mine = {"mine": _list_mine(board, person), "notices": board.list_notices(person.name), "open_key": key}
    waiting = board.share(person.caller.where(Act.READ_SESSIONS), _render_waiting)
    return Shared(render("mine.html", **mine) + waiting.html, waiting.revision)


def _render_waiting(board: Board, namespaces: frozenset[str] | None) -> str:
    rows = board.list_waiting(namespaces)
    free = [row for row in rows if not board.claimed_by(row.key)]
    return render("waiting.html", rows=free[:ROWS_SHOWN], waiting=len(free), worked=len(rows) - len(free))


def _list_mine(board: Board, person: Person) -> list[dict[str, object]]:
    """The sessions one works, those that wait first: one look tells which."""
    keys: list[dict[str, object]] = [{"key": key, "row": board.rows.get(key)} for key in board.claims_of(person.name)]
    return sorted(keys, key=lambda each: (each["row"] is None, str(each["key"])))


@show_errors
async def post_next(request: Request) -> Response:
    """`POST /console/next`: work the session that has waited longest."""
    person = await find_person(request)
    board = find_board(request)
    for row in board.list_waiting(person.caller.where(Act.ANSWER)):
        if not board.claimed_by(row.key):
            board.claim(row.key, person.name)
            return _go(request, row.key)
    board.notify(person.name, "Nobody waits.")
    return RedirectResponse(f"{HOME}/?queue", 303)


@show_errors
async def get_stream(request: Request) -> Response:
    """`GET /console/stream?key=`: server-sent events: the queue as it changes, and which sessions have moved."""
    person = await find_person(request)
    person.caller.require_somewhere(Act.READ_SESSIONS)
    key = request.query_params.get("key", "")
    await find_turns(request).reads.note(person.name, "queue", "")
    if key:
        await _find_session(request, person, Act.READ_SESSIONS, key)
    headers = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}
    return StreamingResponse(_stream(request, key), media_type="text/event-stream", headers=headers)


async def _stream(request: Request, key: str) -> AsyncIterator[str]:
    """What has moved since the page was made, and from then on. Who is let in is asked again at each beat."""
    board, told = find_board(request), ""
    seen = board.read_mark(request.headers.get("last-event-id", "") or request.query_params.get("seen", ""))
    asked = queued = float("-inf")
    shown = -1  # the revision that the queue last sent shows
    while not board.ending:
        if board.clock() - asked > BEAT_SECONDS:
            try:
                person = await find_person(request)
            except PilotageError:
                return  # the next page that is asked for says why
            asked = board.clock()
        for said in board.answers.take_late(person.name):
            board.notify(person.name, f"{said.session_id}: its page has not taken your {said.verdict} yet. Look there.")
        now = board.revision
        for each in {key, *board.claims_of(person.name)}:
            if board.touched.get(each, 0) > seen:
                yield _event(event_of(each), "", board.mark(now))
        seen = now
        if board.clock() - queued >= QUEUE_SECONDS:
            queue, shown = _render_queue(board, person, key)
            queued = board.clock()
            if queue != told:
                told = queue
                yield _event("queue", queue, board.mark(now))
        await board.wait(now, BEAT_SECONDS if shown >= now else QUEUE_SECONDS)
        if board.revision == now and shown >= now:
            yield ": still here\n\n"
        await asyncio.sleep(PAUSE_SECONDS)


def _event(name: str, data: str, mark: str) -> str:
    lines = "\n".join(f"data: {line}" for line in data.split("\n"))
    return f"id: {mark}\nevent: {name}\n{lines}\n\n"


# --- one session -----------------------------------------------------------------------------------------------------
async def _find_session(request: Request, person: Person, act: Act, named: str = "") -> LiveSession:
    key = named or request.path_params["key"]
    session = await find_turns(request).find(key) if key.isprintable() else None
    if session is None or not person.caller.may(Act.READ_SESSIONS, namespace_of(session.process_cluster)):
        raise UnknownError(f"session {key[:80]} is unknown", where="session")
    person.caller.require(act, namespace_of(session.process_cluster))
    return session


@show_errors
async def get_session(request: Request) -> Response:
    """`GET /console/sessions/{key}`: chat, screen and card side by side; alone, where htmx asks."""
    person = await find_person(request)
    session = await _find_session(request, person, Act.READ_SESSIONS)
    board, turns = find_board(request), find_turns(request)
    await turns.reads.note(person.name, "session", session.session_id)
    panel = await _build_panel(session, turns, board, person)
    if is_fragment(request):
        return give_fragment("session.html", person=person, **panel)
    return give_page(request, "home.html", person, **_queue(board, person, session.session_id), **panel)


async def _build_panel(session: LiveSession, turns: Turns, board: Board, person: Person) -> dict[str, object]:
    """What the panel of a session shows."""
    state, key, namespace = session.state, session.session_id, namespace_of(session.process_cluster)
    last = next(reversed(session.proposals.values()), None)
    said = turns.answers.find(last.proposal_id) if last is not None else None
    ran = [session.proposals[proposal_id] for proposal_id in session.executed_unattended(critical_only=False)]
    return {
        "session": session,
        "state": state,
        "event": event_of(key),
        "holder": board.claimed_by(key),
        "may_answer": person.caller.may(Act.ANSWER, namespace),
        "card": session.find_card() if said is None and not session.closed_at else None,
        "said": said,
        "can_undo": said is not None and said.operator == person.name and turns.answers.can_undo(said.proposal_id),
        "say": partial(words.say_action, screen=state.screen),
        "can_edit": words.can_edit,
        "ran": ran,
        "told": await _find_told(session, turns) if person.caller.may(Act.READ_DECISIONS, namespace) else None,
        "grades": list(Grade),
    }


async def _find_told(session: LiveSession, turns: Turns) -> dict[str, object] | None:
    """The last decision whose verdict is in: its score as a band against τ."""
    done = [p for p in session.proposals.values() if p.proposal_id in session.answered]
    if not done:
        return None
    try:
        found = await turns.store.read(partial(queries.read_decision, proposal_id=done[-1].proposal_id))
    except ConflictError:  # answered, but not stored yet: the next look tells
        return None
    return None if found is None else {"record": found[0], "band": words.find_band(found[0])}


@show_errors
async def post_claim(request: Request) -> Response:
    """`POST /console/sessions/{key}/claim`: work it, or say that one still does."""
    person = await find_person(request)
    session = await _find_session(request, person, Act.ANSWER)
    find_board(request).claim(session.session_id, person.name)
    return Response(status_code=204) if is_fragment(request) else _go(request, session.session_id)


@show_errors
async def post_release(request: Request) -> Response:
    """`POST /console/sessions/{key}/release`: let it go."""
    person = await find_person(request)
    session = await _find_session(request, person, Act.ANSWER)
    find_board(request).release(session.session_id, person.name)
    return RedirectResponse(f"{HOME}/?queue", 303)


# --- an answer -------------------------------------------------------------------------------------------------------
@show_errors
async def post_answer(request: Request) -> Response:
    """`POST /console/sessions/{key}/answer`: accept, edit or reject its card."""
    person = await find_person(request)
    form = await read_form(request)
    session = await _find_session(request, person, Act.ANSWER)
    board, turns = find_board(request), find_turns(request)
    board.claim(session.session_id, person.name)
    answer = _read_answer(session, person, form)
    leave = turns.permits.leave_of(session.process_cluster)
    try:
        await turns.answers.give(session, answer, leave.rules if leave is not None else ActionRules())
    except ConflictError as error:
        raise await _say_overtaken(session, turns, answer, error) from error
    board.follow(session)
    return _go(request, session.session_id)


def _read_answer(session: LiveSession, person: Person, form: dict[str, str]) -> Answer:
    proposal = session.proposals.get(form.get("proposal_id", ""))
    if proposal is None:
        raise InvalidInputError("this session has no such proposal", where="proposal_id", remedy="look at it again")
    given = form.get("verdict", "")
    if given not in set(Verdict):
        raise InvalidInputError(f"{given[:40]!r} is no verdict", where="verdict")
    verdict, action = Verdict(given), None
    if verdict is not Verdict.REJECT and "text" in form:  # what is in the box is what is sent
        text, before = words.normalise(form.get("text", "")), proposal.action
        is_same = text == words.normalise(before.text or before.value)
        if len(text) > LONGEST_TEXT and not is_same:
            raise TooLargeError(
                f"{len(text):,} characters, at most {LONGEST_TEXT:,} are sent", where="text", remedy="shorten it"
            )
        edited = msgspec.structs.replace(before, **{"text" if before.text else "value": text})
        action = fill_text(edited, session.state.screen) if text else edited
        verdict, action = (Verdict.ACCEPT, None) if is_same or action == before else (Verdict.EDIT, action)
    grade = Grade(form["grade"]) if form.get("grade") in set(Grade) else None
    grade = Grade.MINOR_EDITS if verdict is Verdict.EDIT and grade is None else grade
    return Answer(
        number=0,
        session_id=session_of(session.session_id),
        proposal_id=proposal.proposal_id,
        verdict=verdict,
        operator=person.name,
        at=writes.utc_now(),
        at_version=session.state.version,
        grade=grade if verdict is not Verdict.ACCEPT else None,
        action=action,
        items=tuple(_read_items(form)),
        note=form.get("note", "").strip(),
        active_seconds=_read_seconds(form.get("seconds", "")),
    )


def _read_items(form: dict[str, str]) -> list[ReviewItem]:
    found = [(name.partition(":")[2], value) for name, value in form.items() if name.startswith("ran:")]
    return [
        ReviewItem(proposal_id, Verdict(value), None if value == Verdict.ACCEPT else Grade.INCORRECT)
        for proposal_id, value in found
        if value in (Verdict.ACCEPT, Verdict.REJECT)
    ]


def _read_seconds(given: str) -> float:
    """How long the card was looked at, as the page measured it; 0 where it did not."""
    return min(float(given), 3600.0) if given.isascii() and given.isdecimal() and len(given) < 8 else 0.0


async def _say_overtaken(session: LiveSession, turns: Turns, answer: Answer, error: ConflictError) -> ConflictError:
    """`error`, with what has happened since the card."""
    proposal = session.proposals.get(answer.proposal_id)
    if proposal is None or proposal.at_version >= session.moved_version:
        return error
    events = await turns.store.read(partial(queries.read_events, session_id=session.session_id))
    since = "; ".join(words.say_since(events[proposal.at_version :]))
    return ConflictError(f"{error.what}: {since}" if since else error.what, where=error.where, remedy=error.remedy)


@show_errors
async def post_undo(request: Request) -> Response:
    """`POST /console/sessions/{key}/undo`: take back what one said, while no adapter has it."""
    person = await find_person(request)
    form = await read_form(request)
    session = await _find_session(request, person, Act.ANSWER)
    board = find_board(request)
    await find_turns(request).answers.undo(form.get("proposal_id", ""), person.name)
    board.follow(session)
    return _go(request, session.session_id)


@show_errors
async def post_diff(request: Request) -> Response:
    """`POST /console/sessions/{key}/diff`: what an edit changes so far, word by word."""
    person = await find_person(request)
    form = await read_form(request)
    session = await _find_session(request, person, Act.READ_SESSIONS)
    proposal = session.proposals.get(form.get("proposal_id", ""))
    before = (proposal.action.text or proposal.action.value) if proposal is not None else ""
    pieces = words.find_changes(words.normalise(before), words.normalise(form.get("text", ""))[:LONGEST_TEXT])
    return give_fragment("diff.html", pieces=pieces)


async def read_form(request: Request) -> dict[str, str]:
    """The fields of a form. Raises TooLargeError before it is read whole."""
    body = await read_stream(request, MAX_FORM_BYTES)
    try:
        return dict(parse_qsl(body.decode("utf-8"), keep_blank_values=True, max_num_fields=500))
    except (ValueError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"this is no form: {error}", where="form") from error


def _go(request: Request, key: str) -> Response:
    """To the session as it is now."""
    return RedirectResponse(f"{HOME}/sessions/{key}", 303)


ROUTES = [
    Route(f"{HOME}/", get_home),
    Route(f"{HOME}/next", post_next, methods=["POST"]),
    Route(f"{HOME}/stream", get_stream),
    Route(HOME + "/sessions/{key}", get_session),
    Route(HOME + "/sessions/{key}/claim", post_claim, methods=["POST"]),
    Route(HOME + "/sessions/{key}/release", post_release, methods=["POST"]),
    Route(HOME + "/sessions/{key}/answer", post_answer, methods=["POST"]),
    Route(HOME + "/sessions/{key}/undo", post_undo, methods=["POST"]),
    Route(HOME + "/sessions/{key}/diff", post_diff, methods=["POST"]),
]
