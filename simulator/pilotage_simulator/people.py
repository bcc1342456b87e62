"""People at the gateway's console, who answer some sessions' cards in the place of the simulated operator.

A few seats: a session that has one waits for a person's word, and goes on with the simulated one where nobody comes.
"""

import asyncio
from typing import Protocol

import aiohttp
import msgspec

from pilotage_core.lists import Answer, AnswerPage
from pilotage_core.wire import ProposalCard

PATIENCE_SECONDS = 45.0
WAIT_SECONDS = 10
PAUSE_SECONDS = 1.0


class People(Protocol):
    """Who may answer instead of the simulated operator."""

    async def ask(self, session_id: str, card: ProposalCard) -> Answer | None:
        """A person's word on `card`; None where nobody says one."""
        ...

    def leave(self, session_id: str) -> None:
        """The session needs nobody any more."""
        ...


class Nobody:
    """No people: the simulated operator works alone."""

    async def ask(self, session_id: str, card: ProposalCard) -> Answer | None:
        """Nobody says a word."""
        return None

    def leave(self, session_id: str) -> None:
        """Nothing to leave."""


class AtConsole:
    """People at the console of the gateway at `url`: `seats` sessions at a time wait for them."""

    def __init__(
        self, url: str, http: aiohttp.ClientSession, seats: int, token: str = "", patience: float = PATIENCE_SECONDS
    ) -> None:
        self._url = f"{url.rstrip('/')}/v1/answers"
        self._headers = {"authorization": f"Bearer {token}"} if token else {}
        self._http = http
        self._seats = seats
        self._patience = patience
        self._seated: set[str] = set()
        self._asked: dict[str, asyncio.Future[Answer]] = {}

    async def ask(self, session_id: str, card: ProposalCard) -> Answer | None:
        """A person's word on `card`, of a session that has a seat or finds one."""
        if session_id not in self._seated and len(self._seated) >= self._seats:
            return None
        self._seated.add(session_id)
        asked = self._asked[card.proposal_id] = asyncio.get_running_loop().create_future()
        try:
            async with asyncio.timeout(self._patience):
                said: Answer = await asked
                return said
        except TimeoutError:
            self.leave(session_id)
            return None
        finally:
            del self._asked[card.proposal_id]

    def leave(self, session_id: str) -> None:
        """Free its seat."""
        self._seated.discard(session_id)

    async def run(self) -> None:
        """Fetch what people say, for ever."""
        after = 0
        while True:
            try:
                page = await self._fetch(after)
            except (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError):
                await asyncio.sleep(PAUSE_SECONDS)  # the gateway is away: sessions go on without people
                continue
            after = page.next
            for said in page.answers:
                asked = self._asked.get(said.proposal_id)
                if asked is not None and not asked.done():
                    asked.set_result(said)

    async def _fetch(self, after: int) -> AnswerPage:
        timeout = aiohttp.ClientTimeout(total=WAIT_SECONDS + 5)
        query = {"after": str(after), "wait": str(WAIT_SECONDS)}
        async with self._http.get(self._url, params=query, headers=self._headers, timeout=timeout) as answer:
            answer.raise_for_status()
            return msgspec.json.decode(await answer.read(), type=AnswerPage)
