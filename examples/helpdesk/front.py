"""Puts Pilotage in front of a web application as it is: its pages get the page adapter, its data stays where it was.

    python front.py --listen 127.0.0.1:8000 --app http://127.0.0.1:8001 --gateway http://127.0.0.1:8080 --start start.js

In production the application serves the adapter itself and passes `/pilotage/` on; this does both from outside, so that
it can be tried on an application that nobody may change. The gateway's credential (--token) stays in this process.
"""

import argparse
import asyncio
import re
from pathlib import Path
from urllib.parse import urlsplit

import aiohttp
from aiohttp import web
from yarl import URL

ADAPTER = Path(__file__).parents[2] / "adapters" / "page" / "src"
HOP_BY_HOP = frozenset(
    ["connection", "keep-alive", "te", "trailer", "transfer-encoding", "upgrade", "content-encoding", "content-length"]
)
TAG = b'<script type="module" src="/pilotage-adapter/start.js"></script>'
PASSED_ON = (
    ("POST", re.compile(r"/pilotage/(v1/sessions/(?!\.{1,2}/)[A-Za-z0-9._:@-]{1,128}/events)")),
    ("GET", re.compile(r"/pilotage/(v1/answers)")),
)
"""What a page may ask of the gateway: its own sessions' events and answers, nothing else."""
LARGEST = 8 << 20


class Front:
    """What is put in front of `app`. `start` is the script that attaches the adapter, `token` the source's secret."""

    def __init__(self, app: str, gateway: str, start: Path, token: str = "") -> None:
        self._app, self._gateway, self._start = app.rstrip("/"), gateway.rstrip("/"), start
        self._headers = {"authorization": f"Bearer {token}"} if token else {}

    def build(self) -> web.Application:
        """The web application."""
        front = web.Application(client_max_size=LARGEST)
        front.router.add_get("/pilotage-adapter/start.js", lambda _: web.FileResponse(self._start))
        front.router.add_static("/pilotage-adapter/", ADAPTER)
        front.router.add_route("*", "/pilotage/{path:.*}", self.ask_gateway)
        front.router.add_route("*", "/{path:.*}", self.ask_app)
        front.cleanup_ctx.append(self._open)
        return front

    async def _open(self, _front: web.Application):
        timeout = aiohttp.ClientTimeout(total=60)
        self._client = aiohttp.ClientSession(timeout=timeout, auto_decompress=True, cookie_jar=aiohttp.DummyCookieJar())
        yield
        await self._client.close()

    async def ask_gateway(self, request: web.Request) -> web.StreamResponse:
        """The adapter's own requests: the credential is for no other page's."""
        path = request.rel_url.raw_path
        found = next(
            (m for method, rule in PASSED_ON if method == request.method and (m := rule.fullmatch(path))), None
        )
        if found is None:
            raise web.HTTPNotFound
        if not _is_same_origin(request):
            raise web.HTTPForbidden(text="this was not sent by a page of this application")
        kind = request.headers.get("content-type", "")
        headers = {**self._headers, **({"content-type": kind} if kind else {})}
        return await self._pass_on(request, f"{self._gateway}/{found[1]}", headers)

    async def ask_app(self, request: web.Request) -> web.StreamResponse:
        """A page of the application, with the adapter in it."""
        kept = {k: v for k, v in request.headers.items() if k.lower() not in HOP_BY_HOP | {"accept-encoding"}}
        is_page = request.method == "GET" and request.headers.get("sec-fetch-dest", "document") == "document"
        return await self._pass_on(request, self._app + request.rel_url.raw_path, kept, TAG if is_page else b"")

    async def _pass_on(self, request: web.Request, url: str, headers: dict[str, str], tag: bytes = b"") -> web.Response:
        body = await request.read() if request.can_read_body else None
        query = request.rel_url.raw_query_string
        target = URL(f"{url}?{query}" if query else url, encoded=True)
        try:
            async with self._client.request(
                request.method, target, data=body, headers=headers, allow_redirects=False
            ) as answer:
                content = await answer.read()
        except (aiohttp.ClientError, TimeoutError) as error:
            raise web.HTTPBadGateway(text=f"{type(error).__name__}: nobody answers there") from error
        if tag and answer.status == 200 and answer.content_type == "text/html":
            head, end, tail = content.rpartition(b"</body>")
            content = head + tag + end + tail if end else content + tag
        told = [(k, v) for k, v in answer.headers.items() if k.lower() not in HOP_BY_HOP]
        return web.Response(status=answer.status, body=content, headers=told)


def _is_same_origin(request: web.Request) -> bool:
    site, origin = request.headers.get("sec-fetch-site", ""), request.headers.get("origin", "")
    return site == "same-origin" or (not site and urlsplit(origin).netloc == request.headers.get("host", ""))


def main() -> None:
    """Serve until it is ended."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--listen", default="127.0.0.1:8000", metavar="HOST:PORT")
    parser.add_argument("--app", required=True, metavar="URL")
    parser.add_argument("--gateway", required=True, metavar="URL")
    parser.add_argument("--start", type=Path, default=Path(__file__).parent / "start.js", metavar="FILE")
    parser.add_argument("--token", type=Path, metavar="FILE", help="a file with the source's secret")
    options = parser.parse_args()
    token = options.token.read_text(encoding="utf-8").strip() if options.token else ""
    host, _, port = options.listen.rpartition(":")
    front = Front(options.app, options.gateway, options.start, token).build()
    web.run_app(front, host=host, port=int(port), access_log=None, print=None, loop=asyncio.new_event_loop())


if __name__ == "__main__":
    main()
