"""Who is at the console: a token in a cookie, got by signing in with an issuer (OpenID Connect) or by showing one.

The cookie holds what an Authorization header would, is sent by browsers only to the console, and counts only here. What
changes something must come from a page of this console: a browser says so (Origin), whoever shows a header needs not.
Nothing of a sign-in is kept in this process: state and verifier are in a short cookie of their own.
"""

import base64
import hashlib
import secrets
from typing import NamedTuple
from urllib.parse import quote, unquote, urlencode, urlsplit

import aiohttp
import msgspec
from starlette.requests import Request
from starlette.responses import RedirectResponse, Response

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.events import Author
from pilotage_core.wire import BY_PERMIT
from pilotage_gateway.access import Caller, ForbiddenError, UnauthorizedError
from pilotage_gateway.callers import Callers
from pilotage_gateway.tokens import DISCOVERY, LARGEST_ANSWER, LONGEST_TOKEN, TIMEOUT, Issuer, check_url

HOME = "/console"
TOKEN, NAME, SIGNING = "pilotage_console", "pilotage_operator", "pilotage_signing_in"
LONGEST_COOKIE = 4_000
"""What browsers keep of one."""
SIGNING_SECONDS = 600
DAY_SECONDS = 12 * 3600


class Person(NamedTuple):
    """Who is here: what they may, and the name that goes into the records."""

    caller: Caller
    name: str


def find_authorization(request: Request) -> str:
    """What the request shows: its header, or at the console the cookie."""
    header = request.headers.get("authorization", "")
    token = request.cookies.get(TOKEN, "") if request.url.path.startswith(HOME) else ""
    return header or (f"Bearer {token}" if token else "")


async def find_person(request: Request) -> Person:
    """Who is here. Raises UnauthorizedError where nobody is, ForbiddenError for a post from another site."""
    callers: Callers = request.app.state.callers
    if request.method == "POST":
        check_origin(request)
    caller = await callers.identify(find_authorization(request))
    name = caller.name or unquote(request.cookies.get(NAME, ""))
    if not name:
        raise UnauthorizedError("who are you?", where="cookie", remedy="say it at /console/sign-in")
    return Person(caller, check_name(name))


def check_name(name: str) -> str:
    """`name`, if it can stand in the records as an operator's. Raises InvalidInputError."""
    if not 0 < len(name) <= 128 or name != name.strip() or not name.isprintable() or name in (BY_PERMIT, *Author):
        raise InvalidInputError(f"{name[:64]!r} is nobody's name", where="name", remedy="give the name you go by")
    return name


def check_origin(request: Request) -> None:
    """Raise ForbiddenError where a post comes from no page of this console. A program that shows a header may say
    nothing of where it is from; a browser always does, also where a proxy adds the header to what it sends.
    """
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    if not site and not origin and request.headers.get("authorization"):
        return
    ours = urlsplit(origin).netloc == request.headers.get("host", "")
    if not (site == "same-origin" or (not site and ours)):
        raise ForbiddenError("this was not sent by a page of this console", where="Origin", remedy="use its own pages")


def list_issuers(callers: Callers) -> list[Issuer]:
    """Whom people can sign in with here."""
    return [issuer for issuer in callers.issuers if issuer.sign_in]


async def begin(request: Request, issuer: Issuer) -> Response:
    """Off to the issuer: authorization code flow with PKCE (RFC 7636). Raises UnavailableError where it is down."""
    where = await _discover(issuer)
    verifier, state, nonce = (secrets.token_urlsafe(32) for _ in range(3))
    challenge = base64.urlsafe_b64encode(hashlib.sha256(verifier.encode()).digest()).rstrip(b"=").decode()
    query = {
        "response_type": "code",
        "client_id": issuer.audience,
        "redirect_uri": _find_return(request),
        "scope": "openid profile email",
        "state": state,
        "nonce": nonce,
        "code_challenge": challenge,
        "code_challenge_method": "S256",
    }
    joined = "&" if urlsplit(where.authorization_endpoint).query else "?"
    answer = RedirectResponse(f"{where.authorization_endpoint}{joined}{urlencode(query)}", 303)
    kept = base64.urlsafe_b64encode(msgspec.json.encode((issuer.issuer, state, nonce, verifier))).decode()
    _set(answer, request, SIGNING, kept, SIGNING_SECONDS)
    return answer


async def finish(request: Request) -> Response:
    """Back from the issuer: its code becomes the token that is shown from now on. Raises UnauthorizedError."""
    try:
        name, state, nonce, verifier = msgspec.json.decode(
            base64.urlsafe_b64decode(request.cookies.get(SIGNING, "")), type=tuple[str, str, str, str]
        )
    except (ValueError, msgspec.MsgspecError) as error:
        raise UnauthorizedError("this sign-in was not begun here, or too long ago", where="cookie") from error
    issuer = next((each for each in list_issuers(request.app.state.callers) if each.issuer == name), None)
    if issuer is None or not secrets.compare_digest(request.query_params.get("state", "").encode(), state.encode()):
        raise UnauthorizedError("this sign-in was not begun here", where="state", remedy="begin again")
    code = request.query_params.get("code", "")
    if not code:
        said = request.query_params.get("error", "no code")[:100]
        raise UnauthorizedError(f"{issuer.issuer} did not let you in: {said}", where="issuer", remedy="begin again")
    token = await _exchange(issuer, code, verifier, _find_return(request))
    await _check_nonce(request, token, nonce)
    answer = RedirectResponse(f"{HOME}/", 303)
    _set(answer, request, TOKEN, token, DAY_SECONDS)
    answer.delete_cookie(SIGNING, path=HOME)
    return answer


async def _check_nonce(request: Request, token: str, nonce: str) -> None:
    """The token is checked as every other one is; its nonce says that it was made for this very sign-in."""
    await request.app.state.callers.identify(f"Bearer {token}")
    claims = msgspec.json.decode(base64.urlsafe_b64decode(token.split(".")[1] + "=="))
    if not secrets.compare_digest(str(claims.get("nonce", "")).encode(), nonce.encode()):
        raise UnauthorizedError("the token is of another sign-in", where="nonce", remedy="begin again")


def show(request: Request, token: str) -> Response:
    """A token that somebody shows: checked by whoever answers the next page."""
    if len(token) > LONGEST_TOKEN or len(token) > LONGEST_COOKIE or not token.isascii():
        raise InvalidInputError("this is no token", where="token")
    answer = RedirectResponse(f"{HOME}/", 303)
    _set(answer, request, TOKEN, token, DAY_SECONDS)
    return answer


def name_oneself(request: Request, name: str) -> Response:
    """A name, where nobody has to show anything: loopback."""
    answer = RedirectResponse(f"{HOME}/", 303)
    _set(answer, request, NAME, quote(check_name(name)), DAY_SECONDS)
    return answer


def leave() -> Response:
    """Nobody any more."""
    answer = RedirectResponse(f"{HOME}/sign-in", 303)
    for name in (TOKEN, NAME, SIGNING):
        answer.delete_cookie(name, path=HOME)
    return answer


def _set(answer: Response, request: Request, name: str, value: str, seconds: int) -> None:
    if len(value) > LONGEST_COOKIE:
        raise InvalidInputError(
            f"a token of {len(value)} characters is more than a browser keeps", where="token",
            remedy="have its issuer put fewer claims in it, or sign in by a proxy that sends the header",
        )  # fmt: skip
    secure = _find_scheme(request) == "https"
    answer.set_cookie(name, value, max_age=seconds, path=HOME, secure=secure, httponly=True, samesite="lax")


def _find_scheme(request: Request) -> str:
    """As the browser sees it: TLS may end before this gateway."""
    told = request.headers.get("x-forwarded-proto", "").partition(",")[0].strip()
    return told if told in ("http", "https") else request.url.scheme


def _find_return(request: Request) -> str:
    return f"{_find_scheme(request)}://{request.headers.get('host', '')}{HOME}/signed-in"


class _Endpoints(msgspec.Struct):
    issuer: str
    authorization_endpoint: str
    token_endpoint: str


async def _discover(issuer: Issuer) -> _Endpoints:
    body = await _ask("GET", issuer.issuer.rstrip("/") + DISCOVERY, None, issuer)
    try:
        found = msgspec.json.decode(body, type=_Endpoints)
        if found.issuer != issuer.issuer:
            raise ValueError("it says another issuer")
        for url in (found.authorization_endpoint, found.token_endpoint):
            check_url(url)
    except (ValueError, msgspec.MsgspecError) as error:
        raise UnavailableError(f"what it says of itself is none of that: {error}", where=issuer.issuer) from error
    return found


async def _exchange(issuer: Issuer, code: str, verifier: str, back: str) -> str:
    where = await _discover(issuer)
    form = {
        "grant_type": "authorization_code",
        "code": code,
        "redirect_uri": back,
        "client_id": issuer.audience,
        "code_verifier": verifier,
    }
    try:
        if secret := issuer.read_client_secret():
            form["client_secret"] = secret
    except OSError as error:
        raise UnavailableError(f"the client's secret cannot be read: {error}", where=issuer.issuer) from error
    try:
        body = msgspec.json.decode(await _ask("POST", where.token_endpoint, form, issuer))
        return str(body["id_token"])
    except (ValueError, msgspec.MsgspecError, KeyError, TypeError) as error:
        raise UnauthorizedError("it gave no id_token", where=issuer.issuer, remedy="begin again") from error


async def _ask(method: str, url: str, form: dict[str, str] | None, issuer: Issuer) -> bytes:
    """An answer of the issuer. Raises UnavailableError where there is none, UnauthorizedError where it refuses."""
    try:
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as client,
            client.request(method, url, data=form, ssl=issuer.trust(), allow_redirects=False) as answer,
        ):
            body = await answer.content.read(LARGEST_ANSWER)
            if 400 <= answer.status < 500:
                raise UnauthorizedError(f"it answers {answer.status}", where=issuer.issuer, remedy="begin again")
            if answer.status != 200:
                raise UnavailableError(f"it answers {answer.status}", where=issuer.issuer)
            return body
    except (aiohttp.ClientError, TimeoutError, OSError) as error:
        raise UnavailableError(f"no answer: {type(error).__name__}", where=issuer.issuer) from error
