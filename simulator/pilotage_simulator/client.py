"""The gateway over HTTP (keep-alive), as a session sees it: one post, one Turn, or a clear reason why not.

Retries are not here: a session keeps its own events in order and decides itself (bpm.py).
"""

import re
from typing import Protocol

import aiohttp
import msgspec

from pilotage_core.errors import ConflictError, InvalidEventError, UnavailableError
from pilotage_core.problem import AGAIN, Problem, read_problem
from pilotage_core.wire import PostEvents, Turn

POST_TIMEOUT_SECONDS = 5.0
_EXPECTED = re.compile(r"sequence (\d+)")


class SequenceConflict(ConflictError):
    """The gateway expects another sequence: `expected` (None where it does not say)."""

    def __init__(self, problem: Problem) -> None:
        super().__init__(problem.detail, where=problem.where, remedy=problem.remedy)
        found = _EXPECTED.findall(problem.remedy) or _EXPECTED.findall(problem.detail)
        self.expected: int | None = int(found[-1]) if found else None


class Gateway(Protocol):
    """What a session needs of a gateway."""

    async def post(self, session_id: str, post: PostEvents) -> Turn:
        """Hand over events. Raises UnavailableError, SequenceConflict, InvalidEventError."""
        ...


class HttpGateway:
    """A gateway at `url`."""

    def __init__(self, url: str, http: aiohttp.ClientSession, token: str = "") -> None:
        self._url = url.rstrip("/")
        self._headers = {"content-type": "application/json"}
        if token:
            self._headers["authorization"] = f"Bearer {token}"
        self._http = http
        self._encoder = msgspec.json.Encoder()
        self._turns = msgspec.json.Decoder(Turn)

    async def post(self, session_id: str, post: PostEvents) -> Turn:
        """Hand over events."""
        body = self._encoder.encode(post)
        try:
            async with self._http.post(
                f"{self._url}/v1/sessions/{session_id}/events",
                data=body,
                headers=self._headers,
                timeout=aiohttp.ClientTimeout(total=POST_TIMEOUT_SECONDS),
            ) as answer:
                content = await answer.read()
                status = answer.status
        except (aiohttp.ClientError, TimeoutError, OSError) as error:
            raise UnavailableError(f"no answer: {error!r}", where=self._url) from error
        if status == 200:
            try:
                return self._turns.decode(content)
            except msgspec.DecodeError as error:
                raise UnavailableError(f"the answer is no Turn: {error}", where=self._url) from error
        raise _read_error(status, content, self._url)


def _read_error(status: int, content: bytes, where: str) -> UnavailableError | ConflictError | InvalidEventError:
    problem = read_problem(status, content, where)
    if status == 409:
        return SequenceConflict(problem)
    if 400 <= status < 500 and status not in AGAIN:
        return InvalidEventError(f"{status}: {problem.detail}", where=problem.where, remedy=problem.remedy)
    return UnavailableError(f"{status}: {problem.detail}", where=where)
