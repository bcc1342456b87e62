"""Permits as a gateway holds them: asked for by long poll, verified, aged, dropped. Deciding is core's permit.py.

Nothing here can raise what a process cluster may do without a signature over this gateway's own nonce; an answer
without one can only lower it (`tighten`).
"""

import asyncio
import logging
import math
import secrets
import socket
import time
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path

import aiohttp
import msgspec
import yarl
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PublicKey

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.errors import PermitError, PilotageError, UnavailableError
from pilotage_core.permit import Permit, PermitFacts, find_permit_fault, remaining_ms, signing_input
from pilotage_core.snapshot import (
    DECODE_PART,
    PARTS,
    Part,
    Snapshot,
    assemble,
    digest_part,
    digest_snapshot,
    find_leave,
)
from pilotage_core.source import Source
from pilotage_core.wire import Leave, PermitReply, PermitRequest, Revocation, SignedPermit

log = logging.getLogger(__name__)
DECODE_REPLY = msgspec.json.Decoder(PermitReply).decode
SHORTEST_WAIT_SECONDS = 0.2
LONGEST_WAIT_SECONDS = 5.0
RETRY_SECONDS = 0.5
RESOLVE_SECONDS = 1.0
RECALL_SECONDS = 3600.0
ANSWER_SECONDS = 2.0
"""How long an answer may take beside its wait: one that hangs is no leader."""
FAULTS = (aiohttp.ClientError, TimeoutError, OSError, msgspec.MsgspecError, PilotageError)
"""What a controller that gives no permit may come to."""


@dataclass(frozen=True, slots=True)
class HeldPermit:
    """A verified permit, with the nonce it answers and both clocks from before that nonce left."""

    permit: Permit
    nonce: str
    nonce_sent: float
    wall_sent: float
    kid: str = ""


class Keys:
    """Public keys of controllers: files `<kid>.pub` of 32 raw bytes. Read for each permit: one that is gone counts no
    more.
    """

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        self._keys: dict[str, Ed25519PublicKey] = {}
        self._said: set[str] = set()

    def has(self, kid: str) -> bool:
        """Whether this key was there when a permit last came."""
        return kid in self._keys

    def verify(self, signed: SignedPermit) -> Permit:
        """The permit in `signed`. Raises PermitError where its key is unknown or its signature is not of that key."""
        self._keys = self._read()
        key = self._keys.get(signed.kid)
        if key is None:
            raise PermitError(
                f"no key {signed.kid[:64]!r} in the keys folder", where="kid", remedy=f"add it to {self._folder}"
            )
        try:
            permit = msgspec.json.decode(signed.permit, type=Permit)
            key.verify(signed.signature, signing_input(permit))
        except msgspec.MsgspecError as error:
            raise PermitError(f"no permit: {error}", where="permit") from error
        except InvalidSignature as error:
            raise PermitError("the signature is not of this permit", where="signature") from error
        return permit

    def _read(self) -> dict[str, Ed25519PublicKey]:
        keys = {}
        for path in sorted(self._folder.glob("*.pub")):
            try:
                raw = path.read_bytes()
            except FileNotFoundError:
                continue  # gone since it was listed
            except OSError as error:
                raw, why = b"", str(error)
            else:
                why = f"has {len(raw)} bytes, a key has 32"
            if len(raw) == 32:
                keys[path.stem] = Ed25519PublicKey.from_public_bytes(raw)
                continue
            if path.stem in self._keys:  # being written, or out of reach for a moment: nobody has taken it away
                keys[path.stem] = self._keys[path.stem]
            if path.stem not in self._said:
                self._said.add(path.stem)
                log.warning("%s: %s: as it was before, if it was there", path, why)
        return keys


@dataclass(frozen=True, slots=True)
class Heard:
    """A snapshot as a reply makes it: `new` parts as they came, by number, among those held before."""

    parts: list[Part]
    digests: tuple[str, ...]
    new: dict[int, bytes]


async def find_addresses(controller: yarl.URL) -> list[str]:
    """The addresses behind a controller's name: of a headless Service those of all replicas. Raises OSError."""
    loop = asyncio.get_running_loop()
    asking = loop.getaddrinfo(controller.host, controller.port, type=socket.SOCK_STREAM)
    async with asyncio.timeout(RESOLVE_SECONDS):  # wait_for swallows a cancellation that comes with the answer
        found = await asking
    return list(dict.fromkeys(str(address[0]) for *_, address in found))


def tighten(held: Snapshot, heard: Snapshot) -> Snapshot:
    """`held` with every stage lowered and every suspension set that `heard` asks for: never more than `held` allows."""
    said = {leave.key: leave for leave in heard.leaves}

    def lower(leave: Leave) -> Leave:
        other = said.get(leave.key)
        if other is None:
            return leave
        stage = min(leave.stage, other.stage, key=lambda stage: stage.rank)
        return msgspec.structs.replace(leave, stage=stage, suspended=leave.suspended or other.suspended)

    return Snapshot(tuple(lower(leave) for leave in held.leaves))


class Permits:
    """What the controller allows now. `snapshot` is None until one was ever seen; `highest_epoch` never falls.

    `remember_epoch` must have stored its argument when it returns: a permit counts only then.
    """

    def __init__(
        self,
        controller: str,
        keys: Keys,
        *,
        remember_epoch: Callable[[str, int], Awaitable[None]],
        remember_parts: Callable[[dict[int, bytes]], Awaitable[None]],
        on_leaves: Callable[[Iterable[Leave]], None],
        token: Path | None = None,
    ) -> None:
        self._token = token
        self._controller = yarl.URL(controller)
        self._leader = ""
        self._addresses: list[str] = []
        self._keys = keys
        self._remember_epoch = remember_epoch
        self._remember_parts = remember_parts
        self._on_leaves = on_leaves
        self._gateway = f"{socket.gethostname()}-{secrets.token_hex(4)}"
        self._held: HeldPermit | None = None
        self._leaves: dict[str, Leave] = {}
        self._parts: list[Part] = []
        self._digests: tuple[str, ...] = ()
        self._tightened = False
        self._revoked: dict[str, Revocation] = {}
        self.withheld = ""  # why there is no leave whatever the controller says
        self.snapshot: Snapshot | None = None
        self.snapshot_digest = ""
        self.highest_epoch = 0
        self.domain = ""

    def withhold(self, why: str) -> None:
        """Give no leave any more, whatever the controller says."""
        self.withheld = why

    def restore(self, epochs: dict[str, int], parts: dict[int, bytes]) -> None:
        """Take up what the records remember. No permit comes back: at most proposals, until the controller answers."""
        self.domain, self.highest_epoch = next(iter(epochs.items()), ("", 0))
        try:
            if parts:
                self._hold(self._hear(parts))
        except PermitError as error:
            log.warning("the snapshot in the records cannot be read, the controller gives another: %s", error)

    def find_leave(self, metadata: dict[str, str], source: Source) -> Leave | None:
        """What a new session may do. Raises UnavailableError before any snapshot was seen."""
        if self.snapshot is None:
            raise UnavailableError(
                "no snapshot was ever seen: which process cluster this is cannot be told",
                where="controller",
                remedy="keep the events and send them again; see that the gateway reaches the controller",
            )
        return find_leave(self.snapshot, metadata, source)

    def leave_of(self, process_cluster: str) -> Leave | None:
        """What the last snapshot says of a process cluster, by key."""
        return self._leaves.get(process_cluster)

    def remaining_ms(self, now: float | None = None) -> int:
        """Milliseconds of leave left; 0 where the permit held is none that counts now."""
        held = self._held
        if held is None or self._tightened or self.withheld:
            return 0
        now = boot_seconds() if now is None else now
        if find_permit_fault(held.permit, self._facts(held.nonce, held.nonce_sent, held.wall_sent, now)) is not None:
            return 0
        return remaining_ms(held.permit, held.nonce_sent, now)

    def remaining_of(self, leave: Leave | None) -> int:
        """Milliseconds of leave that one process cluster has left: the permit's, or its own gate's where less."""
        if leave is None or self._held is None or self.withheld:
            return 0
        now = boot_seconds()
        longest = leave.longest_ms - (now - self._held.nonce_sent) * 1000 if leave.longest_ms else math.inf
        return int(max(0.0, min(self.remaining_ms(now), longest)))

    async def run(self) -> None:
        """Poll for ever; a failure is logged and tried again."""
        async with aiohttp.ClientSession() as client:
            failing = False
            while True:
                try:
                    await self.poll(client)
                    failing = False
                except FAULTS as error:
                    if not failing:
                        log.warning("no permit: %s: %s", type(error).__name__, error)
                    failing = True
                    await asyncio.sleep(RETRY_SECONDS)

    async def poll(self, client: aiohttp.ClientSession) -> None:
        """Ask once: who gave the last permit, then the others: only the leader signs. Raises what the last one said."""
        try:
            self._addresses = await find_addresses(self._controller)
        except OSError:  # a name server that is away costs no leave while the addresses known last answer
            if not self._addresses:
                raise
        addresses = list(self._addresses)
        addresses.sort(key=lambda address: address != self._leader)
        for address in addresses:
            try:
                await self._ask(client, address)
                self._leader = address
                return
            except FAULTS:
                self._leader = ""
                if address == addresses[-1]:
                    raise

    async def _ask(self, client: aiohttp.ClientSession, address: str) -> None:
        """Ask one controller. Both clocks are read before the nonce exists: a permit is never younger than we think."""
        sent, wall_sent = boot_seconds(), time.time()
        nonce = secrets.token_hex(16)
        held = () if self._tightened else self._digests
        wait = self._wait_seconds()
        request = PermitRequest(self._gateway, nonce, self.highest_epoch, held, wait, self._recall(wall_sent))
        token = self._read_token()
        headers = {"Authorization": f"Bearer {token}"} if token else {}
        url, timeout = self._controller.with_host(address) / "v1/permits", aiohttp.ClientTimeout(wait + ANSWER_SECONDS)
        async with client.post(url, data=msgspec.json.encode(request), headers=headers, timeout=timeout) as response:
            body = await response.read()
            if response.status != 200:
                raise PermitError(f"HTTP {response.status}: {body[:200]!r}", where=str(url))
        await self.take(DECODE_REPLY(body), nonce, sent, wall_sent)

    def _recall(self, now: float) -> dict[str, Revocation]:
        """What was taken back lately: whoever did may have died before it was written down."""
        return {key: found for key, found in self._revoked.items() if found.at > now - RECALL_SECONDS}

    def _read_token(self) -> str:
        """This gateway's credential, read each time: Kubernetes renews it, and a local controller may yet write it."""
        try:
            return self._token.read_text().strip() if self._token is not None else ""
        except FileNotFoundError:
            return ""

    async def take(self, reply: PermitReply, nonce: str, sent: float, wall_sent: float) -> None:
        """Use one answer to `nonce`. Raises PermitError where it gives no leave; what it lowers is lowered even so."""
        heard = self._hear({number: bytes(body) for number, body in reply.parts.items()})
        try:
            permit = self._keys.verify(reply.signed)
            digest = digest_snapshot(heard.digests)
            fault = find_permit_fault(permit, self._facts(nonce, sent, wall_sent, boot_seconds(), digest))
            if fault is not None:
                raise PermitError(f"the permit gives no leave: {fault}", where="permit")
        except PermitError:
            if self._held is not None and not self._keys.has(self._held.kid):
                self._held = None  # whoever took its key away wants it to count no more
            self._tighten_by(heard)
            raise
        if heard.new:
            self._hold(heard)  # at once: the permit held until now is of another snapshot and counts no more
            self._tightened = False
        if permit.epoch > self.highest_epoch or not self.domain:
            await self._remember_epoch(permit.domain, permit.epoch)
            self.domain, self.highest_epoch = permit.domain, permit.epoch
        self._held = HeldPermit(permit, nonce, sent, wall_sent, reply.signed.kid)
        if heard.new:
            await self._remember_parts(heard.new)

    def _hear(self, new: dict[int, bytes]) -> Heard:
        """The parts held, with `new` ones in their places. Raises PermitError where one cannot be read."""
        parts = [*self._parts, *[Part()] * (PARTS - len(self._parts))]
        digests = [*self._digests, *[""] * (PARTS - len(self._digests))]
        for number, body in new.items():
            try:
                if not 0 <= number < PARTS:
                    raise PermitError(f"there is no part {number}, {PARTS} are known", where="parts")
                parts[number], digests[number] = DECODE_PART(body), digest_part(body)
            except msgspec.MsgspecError as error:
                raise PermitError(f"is no part of a snapshot: {error}", where=f"parts.{number}") from error
        return Heard(parts, tuple(digests), new)

    def _tighten_by(self, heard: Heard) -> None:
        if not heard.new or self.snapshot is None:
            return
        tightened = tighten(self.snapshot, Snapshot(tuple(leave for n in heard.new for leave in heard.parts[n].leaves)))
        if tightened != self.snapshot:
            self._leaves = {leave.key: leave for leave in tightened.leaves}
            self.snapshot, self._tightened = tightened, True

    def _hold(self, heard: Heard) -> None:
        self._parts, self._digests = heard.parts, heard.digests
        self.snapshot, self.snapshot_digest = assemble(heard.parts), digest_snapshot(heard.digests)
        self._leaves = {leave.key: leave for leave in self.snapshot.leaves}
        self._revoked = {leave.key: leave.revoked for leave in self.snapshot.leaves if leave.revoked is not None}
        self._on_leaves(leave for number in heard.new for leave in heard.parts[number].leaves)

    def _facts(self, nonce: str, sent: float, wall_sent: float, now: float, digest: str | None = None) -> PermitFacts:
        return PermitFacts(
            now=now,
            nonce=nonce,
            nonce_sent=sent,
            highest_epoch=self.highest_epoch,
            snapshot_digest=self.snapshot_digest if digest is None else digest,
            domain=self.domain,
            drift_seconds=(time.time() - wall_sent) - (now - sent),
        )

    def _wait_seconds(self) -> float:
        """At most a third of the validity, so that two polls may fail before leave lapses. Right away when without."""
        if self._held is None or (self.remaining_ms() == 0 and not self.withheld):
            return 0.0
        own = (leave.longest_ms for leave in self._leaves.values() if leave.longest_ms)
        shortest = min([self._held.permit.validity_ms, *own])
        return min(LONGEST_WAIT_SECONDS, max(SHORTEST_WAIT_SECONDS, shortest / 3000))
