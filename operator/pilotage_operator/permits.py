"""The authority behind permits: epoch, key, snapshot, and how fresh the knowledge is that a permit rests on.

A permit is only as good as what the controller last saw, and as its Lease: its validity is the ttl less the age of the
last full sweep, and what is left of the Lease where that is less. So all of a leader's permits have lapsed when another
takes over what was not renewed. Of a Lease that was given back they last until then, seconds, as they would have.
Not here: HTTP (server.py), where epoch and key are kept (apply/), what the snapshot says (decide/).
"""

import asyncio
from collections.abc import Awaitable, Callable
from dataclasses import dataclass

import msgspec
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.permit import Permit, signing_input
from pilotage_core.snapshot import DECODE_PART, PARTS, Parts, Snapshot, assemble
from pilotage_core.wire import PermitReply, PermitRequest, Revocation, SignedPermit

DEFAULT_TTL_SECONDS = 10.0
LONGEST_WAIT_SECONDS = 20.0
BLIND_SECONDS = 30.0
"""A leader that has seen no whole world for so long gives the Lease back."""
LARGEST_JUMP = 1_000
"""More starts than any lost counter forgets."""
MOST_REVOKED = 20_000
LARGEST_EPOCH = 2**52
"""Beyond it a reported epoch is no epoch: JSON numbers are exact to 2^53."""


@dataclass(frozen=True, slots=True)
class SigningKey:
    """An Ed25519 key and its name; gateways find the public half as `<kid>.pub`."""

    kid: str
    private: Ed25519PrivateKey


class Authority:
    """Signs permits for the snapshot last published. One for each controller process; it signs in its terms alone.

    `remember_epoch` must have stored its argument when it returns: an epoch counts only then. `lease_left`: seconds for
    which this process leads. Without a Lease to wait for, a term waits for a ttl: earlier permits may be about.
    """

    def __init__(
        self,
        domain: str,
        epoch: int,
        key: SigningKey,
        remember_epoch: Callable[[int], Awaitable[None]],
        clock: Callable[[], float] = boot_seconds,
        ttl_seconds: float = DEFAULT_TTL_SECONDS,
        lease_left: Callable[[], float] = lambda: float("inf"),
    ) -> None:
        self.domain = domain
        self.epoch = epoch
        self.ttl_seconds = ttl_seconds
        self.digest = ""
        self.digests: tuple[str, ...] = ()
        self._bodies: tuple[bytes, ...] = ()
        self._key = key
        self._remember_epoch = remember_epoch
        self._clock = clock
        self._lease_left = lease_left
        self.leads = False
        self._began = clock()
        self._rises_at = clock() + ttl_seconds
        self._fresh_at = self._sighted_at = float("-inf")
        self._changed = asyncio.Event()
        self._raising = asyncio.Lock()
        self._raised_at = float("-inf")
        self._reported: dict[str, Revocation] = {}
        self._heard: dict[str, float] = {}

    def begin_term(self, epoch: int, *, waits: bool) -> None:
        """Lead under `epoch`, knowing nothing yet; `waits`: nobody can tell when all earlier permits have lapsed."""
        self._forget()
        self._reported, self._heard = {}, {}
        self.epoch, self.leads, self._began = epoch, True, self._clock()
        self._rises_at = self._clock() + (self.ttl_seconds if waits else 0.0)

    def end_term(self) -> None:
        """Sign nothing more: gateways that wait are told at once to ask elsewhere."""
        self.leads = False
        self._forget()

    def is_at_work(self) -> bool:
        """Whether this term has seen a whole world lately: one that has not should be another's."""
        return self._clock() - max(self._began, self._sighted_at) < BLIND_SECONDS

    def may_act(self) -> bool:
        """Whether this process leads at this moment."""
        return self._lease_left() > 0.0

    def _forget(self) -> None:
        self.digests, self._bodies, self.digest, self._fresh_at = (), (), "", float("-inf")
        self._changed.set()
        self._changed = asyncio.Event()

    @property
    def snapshot(self) -> Snapshot | None:
        """What permits are signed for, read again from its parts; None before anything was published."""
        return assemble(map(DECODE_PART, self._bodies)) if self._bodies else None

    def publish(self, parts: Parts) -> None:
        """Make `parts` what permits are signed for; gateways that wait are answered at once where it is another."""
        parts.settle()
        digest = parts.digest
        if digest == self.digest:
            return
        self.digests, self._bodies, self.digest = tuple(parts.digests), tuple(parts.bodies), digest
        self._changed.set()
        self._changed = asyncio.Event()

    def note_sight(self) -> None:
        """The world was seen, whatever becomes of it: this term is at work."""
        self._sighted_at = self._clock()

    def confirm(self, seen_at: float) -> None:
        """Everything the snapshot rests on was seen again by a sweep that began at `seen_at` (boot seconds)."""
        self._fresh_at = max(self._fresh_at, seen_at)

    def has_waited(self) -> bool:
        """Whether every permit of an earlier controller has lapsed: only now may anything rise above Copilot."""
        return self._clock() >= self._rises_at

    def validity_ms(self) -> int:
        """Milliseconds for which a permit signed now gives leave: the ttl less the age of what is known, or what is
        left of the Lease.
        """
        age = self._clock() - self._fresh_at
        left = min(self.ttl_seconds - age, self._lease_left()) if age >= 0 else 0.0
        return int(max(left, 0.0) * 1000)

    async def answer(self, request: PermitRequest) -> PermitReply:
        """Wait until the snapshot is not the one held, at most `wait_seconds`; then sign.

        Raises InvalidInputError for an impossible epoch, UnavailableError before the first full sweep.
        """
        if not 0 <= request.highest_epoch <= LARGEST_EPOCH:
            raise InvalidInputError(f"{request.highest_epoch} is no epoch", where="highest_epoch")
        if not 0 < len(request.nonce) <= 256:
            raise InvalidInputError("a nonce has 1 to 256 characters", where="nonce")
        self._require_term()
        self._hear(request.revoked)
        if request.highest_epoch > self.epoch:
            await self._raise_epoch(request.highest_epoch)
        if request.held == self.digests:
            await self._wait(min(max(request.wait_seconds, 0.0), LONGEST_WAIT_SECONDS))
            self._require_term()
        held = request.held if len(request.held) == PARTS else ("",) * PARTS
        new = {n: msgspec.Raw(self._bodies[n]) for n, digest in enumerate(self.digests) if digest != held[n]}
        return PermitReply(self._sign(request.nonce), new)

    def reported(self) -> dict[str, Revocation]:
        """What gateways say was taken back, and no sweep has looked at."""
        return dict(self._reported)

    def note_heard(self, looked_at: dict[str, Revocation]) -> None:
        """A sweep has looked at these, and published what follows."""
        for key, revocation in looked_at.items():
            self._heard[key] = revocation.at
            if self._reported.get(key) == revocation:
                del self._reported[key]

    def _hear(self, revoked: dict[str, Revocation]) -> None:
        """Raise UnavailableError where a gateway knows of leave that was taken back and that this term has not looked
        at: until then it signs nothing for it, as what it would sign may give that leave back.
        """
        if len(revoked) > MOST_REVOKED:
            raise InvalidInputError(f"{len(revoked)} revocations, {MOST_REVOKED} are the limit", where="revoked")
        news = {key: told for key, told in revoked.items() if told.at > self._heard.get(key, float("-inf"))}
        for key, told in news.items():
            if key not in self._reported or told.at > self._reported[key].at:
                self._reported[key] = told
        if news:
            raise UnavailableError(
                "leave that was taken back is looked at first", where="revoked", remedy="ask again, soon"
            )

    def _require_term(self) -> None:
        if not self.digests or self._lease_left() <= 0.0:
            raise UnavailableError(
                "no full sweep yet, or another one leads", where="controller", remedy="ask the others, and again"
            )

    def _sign(self, nonce: str) -> SignedPermit:
        permit = Permit(self.domain, self.epoch, nonce, self.validity_ms(), self.digest)
        return SignedPermit(msgspec.json.encode(permit), self._key.private.sign(signing_input(permit)), self._key.kid)

    async def _wait(self, seconds: float) -> None:
        try:
            await asyncio.wait_for(self._changed.wait(), seconds)
        except TimeoutError:
            return

    async def _raise_epoch(self, seen: int) -> None:
        """A gateway has seen a later epoch than ours (our counter was lost): go above it, and wait once more.

        By LARGEST_JUMP at most, and once a ttl: a number that somebody made up must not use up all numbers.
        """
        async with self._raising:
            if seen < self.epoch:
                return
            if seen - self.epoch > LARGEST_JUMP:
                raise InvalidInputError(
                    f"epoch {seen} is {seen - self.epoch} above ours, {LARGEST_JUMP} are the limit",
                    where="highest_epoch",
                    remedy=f"if gateways have really seen it, write {seen} where the controller keeps its epoch",
                )
            if self._clock() - self._raised_at < self.ttl_seconds:
                raise UnavailableError("the epoch was raised just now", where="highest_epoch", remedy="ask again")
            self._raised_at = self._clock()
            self._require_term()  # who lost the Lease while it waited must not take the epoch from who holds it
            await self._remember_epoch(seen + 1)
            self.epoch = seen + 1
            self._rises_at = self._clock() + self.ttl_seconds
