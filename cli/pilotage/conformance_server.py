"""The gateway that `pilotage conformance --serve` plays, over HTTP: one adapter, one session, until nothing is left."""

import asyncio
from collections.abc import Callable

from aiohttp import web

from pilotage.conformance import Conductor

SILENCE_SECONDS = 20.0


async def hear_adapter(
    host: str, port: int, control_id: str = "", silence_seconds: float = SILENCE_SECONDS,
    ready: Callable[[str], None] = lambda address: None,
) -> Conductor:  # fmt: skip
    """Play the gateway at `host` and `port` (0: any) to the first session that comes, until all was tried or it is
    silent. `ready` is told the address. Raises OSError where it cannot listen there.
    """
    conductor, over, heard = Conductor(control_id), asyncio.Event(), asyncio.Event()

    async def post(request: web.Request) -> web.StreamResponse:
        reply = conductor.answer(request.match_info["session_id"], await request.read())
        heard.set()
        if conductor.is_over:
            over.set()
        if reply is None:
            assert request.transport is not None
            request.transport.abort()  # read, and never answered
            return web.Response()
        return web.json_response(reply.body, status=reply.status)

    async def answers(request: web.Request) -> web.StreamResponse:
        await asyncio.sleep(min(float(request.query.get("wait", "0")), 1.0))
        return web.json_response({"answers": [], "next": int(request.query.get("after", "0"))})

    app = web.Application(client_max_size=1 << 20)
    app.add_routes([web.post("/v1/sessions/{session_id}/events", post), web.get("/v1/answers", answers)])
    runner = web.AppRunner(app, access_log=None, shutdown_timeout=0.2)
    await runner.setup()
    try:
        await web.TCPSite(runner, host, port).start()
        ready("http://{}:{}".format(*runner.addresses[0][:2]))
        await _listen(over, heard, silence_seconds)
    finally:
        await runner.cleanup()
    if not over.is_set():
        conductor.finish()
    return conductor


async def _listen(over: asyncio.Event, heard: asyncio.Event, silence_seconds: float) -> None:
    """Until it is over, or nothing was heard for so long."""
    while not over.is_set():
        heard.clear()
        waiting = [asyncio.create_task(over.wait()), asyncio.create_task(heard.wait())]
        done, _ = await asyncio.wait(waiting, timeout=silence_seconds, return_when=asyncio.FIRST_COMPLETED)
        for task in waiting:
            task.cancel()
        if not done:
            return
