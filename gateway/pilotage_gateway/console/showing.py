"""How pages are made: the templates, what each of them is given, and errors as pages. Everything is escaped."""

from collections.abc import Awaitable, Callable
from functools import wraps
from importlib.resources import files
from importlib.util import find_spec
from pathlib import Path

from jinja2 import Environment, PackageLoader, StrictUndefined
from starlette.requests import Request
from starlette.responses import FileResponse, RedirectResponse, Response
from starlette.routing import Route

from pilotage_core.errors import PilotageError
from pilotage_gateway.access import Act, UnauthorizedError
from pilotage_gateway.console.entering import HOME, Person
from pilotage_gateway.problems import STATUS, UnknownError

POLICY = (
    "default-src 'none'; script-src 'self'; style-src 'self'; img-src 'self' data:; connect-src 'self'; "
    "form-action 'self'; base-uri 'none'; frame-ancestors 'none'"
)
HEADERS = {
    "Content-Security-Policy": POLICY,
    "Cache-Control": "no-store",
    "Referrer-Policy": "same-origin",
    "Vary": "HX-Request",
    "X-Content-Type-Options": "nosniff",
}
TO_PROBLEM = {"HX-Retarget": "#problem", "HX-Reswap": "innerHTML"}
Answer = Callable[[Request], Awaitable[Response]]
_TEMPLATES = Environment(
    loader=PackageLoader("pilotage_gateway.console"),
    autoescape=True,
    undefined=StrictUndefined,
    trim_blocks=True,
    lstrip_blocks=True,
)
_TEMPLATES.globals["home"] = HOME


def render(name: str, **values: object) -> str:
    """One template."""
    return _TEMPLATES.get_template(name).render(values)


def is_fragment(request: Request) -> bool:
    """Whether htmx asks for a part of the page alone."""
    return request.headers.get("hx-request") == "true"


def give_page(request: Request, name: str, person: Person | None, **values: object) -> Response:
    """A whole page."""
    seen = {
        "person": person,
        "path": request.url.path,
        "may": {act.name: person.caller.may_somewhere(act) for act in Act} if person is not None else {},
    }
    return Response(render(name, **seen, **values), media_type="text/html", headers=HEADERS)


def give_fragment(name: str, **values: object) -> Response:
    """A part of a page."""
    return Response(render(name, **values), media_type="text/html", headers=HEADERS)


def show_errors(answer: Answer) -> Answer:
    """`answer`, with errors of our tree told to a person: what, where, what to do."""

    @wraps(answer)
    async def told(request: Request) -> Response:
        try:
            return await answer(request)
        except PilotageError as error:
            return tell(request, error)

    return told


def tell(request: Request, error: PilotageError) -> Response:
    """`error` to a person: in its page, or as one. Who is nobody is asked who, but for who has just said it."""
    status = next((STATUS[kind] for kind in type(error).__mro__ if kind in STATUS), 500)
    is_nobody, is_signing_in = isinstance(error, UnauthorizedError), request.url.path == f"{HOME}/signed-in"
    if is_fragment(request):
        body = render("problem.html", error=error, is_nobody=is_nobody)
        return Response(body, status, HEADERS | TO_PROBLEM, "text/html")
    if is_nobody and request.method == "GET" and not is_signing_in:
        return RedirectResponse(f"{HOME}/sign-in", 303)
    body = render("problem_page.html", error=error, is_nobody=is_nobody, person=None, path="", may={})
    return Response(body, status, HEADERS, "text/html")


# --- static files ----------------------------------------------------------------------------------------------------
def _find_htmx() -> Path:
    """htmx comes from PyPI within django-htmx, which keeps it current; nothing of Django is imported, or installed."""
    spec = find_spec("django_htmx")
    assert spec is not None
    assert spec.submodule_search_locations
    return Path(spec.submodule_search_locations[0]) / "static" / "django_htmx"


def _list_files() -> dict[str, Path]:
    htmx, own = _find_htmx(), Path(str(files("pilotage_gateway.console") / "static"))
    return {
        "htmx.js": htmx / "htmx-2.min.js",
        "sse.js": htmx / "ext" / "hx-sse-2.min.js",
        "console.js": own / "console.js",
        "console.css": own / "console.css",
        "icon.svg": own / "icon.svg",
    }


_FILES = _list_files()


async def get_static(request: Request) -> Response:
    """`GET /console/static/{name}`: one of five files."""
    path = _FILES.get(request.path_params["name"])
    if path is None:
        raise UnknownError("there is no such file", where="path")
    return FileResponse(path, headers={"Cache-Control": "max-age=300", "X-Content-Type-Options": "nosniff"})


ROUTES = [Route(HOME + "/static/{name}", get_static)]
