"""Tokens that an issuer has signed (JWT, RFC 7519): people's by OIDC, Kubernetes' of service accounts.

They are checked here, against keys that are kept: an issuer that is down, an API server among them, stops nobody. So a
token counts until it expires, whatever has become of who it was made for.
"""

import asyncio
import hashlib
import logging
import ssl
import time
from collections import OrderedDict
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import aiohttp
import jwt
import msgspec

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_gateway.access import UnauthorizedError

log = logging.getLogger(__name__)
ALGORITHMS = ["RS256", "RS384", "RS512", "PS256", "PS384", "PS512", "ES256", "ES384", "ES512", "EdDSA"]
"""Public keys alone: with a shared one, whoever can check a token can make one."""
LONGEST_TOKEN = 16 << 10
LEEWAY_SECONDS = 5
REFRESH_SECONDS, AGAIN_SECONDS = 300.0, 10.0
"""How old keys may be, and how soon an issuer is asked again, whatever unknown keys tokens name."""
KNOWN_SECONDS, KNOWN_KEPT = 60.0, 4096
TIMEOUT = aiohttp.ClientTimeout(total=3.0)
DISCOVERY = "/.well-known/openid-configuration"
LARGEST_ANSWER = 1 << 20
LOOPBACK = frozenset({"127.0.0.1", "::1", "localhost"})


class Issuer(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """Whose tokens count, and how they are read.

    `audience` is the name that this gateway has there. `jwks` is where its keys are: a URL, or a file; empty: what its
    discovery document says. `ca` signs that server's certificate, `credential` is a file with the token it wants.
    `name` and `groups` are the claims that say who somebody is; a mail address counts once it is verified. `sign_in`:
    people sign in with it at the console, which is then its client of the id `audience`; `client_secret` is a file with
    that client's secret, where it has one.
    """

    issuer: str
    audience: str
    jwks: str = ""
    ca: str = ""
    credential: str = ""
    name: str = "sub"
    groups: str = "groups"
    sign_in: bool = False
    client_secret: str = ""

    def read_client_secret(self) -> str:
        """The client's secret; empty where it has none. Raises OSError where it cannot be read."""
        return _read_file(self.client_secret).decode().strip() if self.client_secret else ""

    def trust(self) -> ssl.SSLContext | bool:
        """Whose certificates are believed."""
        return ssl.create_default_context(cafile=self.ca) if self.ca else True


class Identity(msgspec.Struct, frozen=True):
    """Who a token is of, as its issuer says."""

    issuer: str
    name: str
    groups: tuple[str, ...]
    audiences: tuple[str, ...]
    expires: float


class KeySet:
    """An issuer's keys, asked for again as they grow old; where that fails the last ones stay."""

    def __init__(self, issuer: Issuer, clock: Callable[[], float] = time.monotonic) -> None:
        self._issuer = issuer
        self._clock = clock
        self._keys: dict[str, jwt.PyJWK] = {}
        self._fetched = self._tried = float("-inf")
        self._asking = asyncio.Lock()

    async def find(self, kid: str) -> jwt.PyJWK | None:
        """The key with this id, without one the only key; None where the issuer has none such.

        Raises UnavailableError where it never answered.
        """
        if self._pick(kid) is None or self._clock() - self._fetched > REFRESH_SECONDS:
            async with self._asking:
                await self._refresh(kid)
        if self._fetched == float("-inf"):
            raise UnavailableError(f"the keys of {self._issuer.issuer} are not known yet", where="Authorization")
        return self._pick(kid)

    def _pick(self, kid: str) -> jwt.PyJWK | None:
        return self._keys.get(kid) if kid or len(self._keys) != 1 else next(iter(self._keys.values()))

    async def _refresh(self, kid: str) -> None:
        now = self._clock()
        is_fresh = self._pick(kid) is not None and now - self._fetched <= REFRESH_SECONDS
        if is_fresh or now - self._tried < AGAIN_SECONDS:
            return
        self._tried = now
        try:
            self._keys = _read_keys(await self._fetch())
            self._fetched = now
        except (OSError, aiohttp.ClientError, TimeoutError, ValueError, UnavailableError) as error:
            log.warning("keys of %s: the last ones stay: %s", self._issuer.issuer, error)

    async def _fetch(self) -> bytes:
        issuer = self._issuer
        if issuer.jwks.startswith("/"):
            return _read_file(issuer.jwks)
        url = issuer.jwks
        if not url:
            found = msgspec.json.decode(await self._get(issuer.issuer.rstrip("/") + DISCOVERY))
            if not isinstance(found, dict) or found.get("issuer") != issuer.issuer:
                raise ValueError("its discovery document names another issuer")
            url = str(found.get("jwks_uri", ""))
        return await self._get(url)

    async def _get(self, url: str) -> bytes:
        check_url(url)
        headers = {}
        if self._issuer.credential:
            headers["Authorization"] = f"Bearer {_read_file(self._issuer.credential).decode().strip()}"
        async with (
            aiohttp.ClientSession(timeout=TIMEOUT) as client,
            client.get(url, headers=headers, ssl=self._issuer.trust(), allow_redirects=False) as answer,
        ):
            if answer.status != 200:
                raise UnavailableError(f"answered {answer.status}", where=url)
            body = await answer.content.read(LARGEST_ANSWER)
            while more := await answer.content.read(LARGEST_ANSWER):
                body += more
                if len(body) > LARGEST_ANSWER:
                    raise ValueError(f"its answer is larger than {LARGEST_ANSWER} bytes")
            return body


def _read_file(path: str) -> bytes:
    return Path(path).read_bytes()


def _read_keys(body: bytes) -> dict[str, jwt.PyJWK]:
    """Keys by id; those of a kind that is not used here are left out. Raises ValueError for something else."""
    found = msgspec.json.decode(body)
    if not isinstance(found, dict) or not isinstance(found.get("keys"), list):
        raise ValueError("no set of keys")
    keys = {}
    for each in found["keys"]:
        try:
            key = jwt.PyJWK.from_dict(each)
        except jwt.PyJWTError:
            continue
        if each.get("use", "sig") == "sig" and key.key_type != "oct":
            keys[key.key_id or ""] = key
    return keys


def check_url(url: str) -> None:
    """Raise ValueError for an address whose answers somebody in between could write."""
    parts = urlsplit(url)
    if parts.scheme != "https" and not (parts.scheme == "http" and parts.hostname in LOOPBACK):
        raise ValueError(f"{url!r}: keys come by https alone")


class Tokens:
    """Checks tokens of `issuers`, by the name in them; what one says is remembered for a minute, within its life."""

    def __init__(self, issuers: tuple[Issuer, ...], clock: Callable[[], float] = time.monotonic) -> None:
        self._issuers = {each.issuer: (each, KeySet(each, clock)) for each in issuers}
        self._clock = clock
        self._known: OrderedDict[bytes, tuple[float, Identity]] = OrderedDict()

    async def identify(self, token: str) -> Identity | None:
        """Who `token` is of; None where it is no token of these issuers. Raises UnauthorizedError, UnavailableError."""
        if len(token) > LONGEST_TOKEN or token.count(".") != 2:
            return None
        digest = hashlib.sha256(token.encode()).digest()
        until, known = self._known.get(digest, (float("-inf"), None))
        if known is not None and self._clock() < until and time.time() < known.expires + LEEWAY_SECONDS:
            return known
        found = await self._check(token)
        if found is not None:
            self._known[digest] = (self._clock() + KNOWN_SECONDS, found)
            while len(self._known) > KNOWN_KEPT:
                self._known.popitem(last=False)
        return found

    async def _check(self, token: str) -> Identity | None:
        try:
            header = jwt.get_unverified_header(token)
            said = jwt.decode(token, options={"verify_signature": False})
        except jwt.PyJWTError:
            return None
        issuer, keys = self._issuers.get(str(said.get("iss")), (None, None))
        if issuer is None or keys is None:
            return None
        key = await keys.find(str(header.get("kid") or ""))
        if key is None or header.get("alg") != key.algorithm_name:
            raise UnauthorizedError("the token's key is not one of its issuer's", where="Authorization")
        try:
            claims = jwt.decode(
                token, key, ALGORITHMS, audience=issuer.audience.split(), issuer=issuer.issuer, leeway=LEEWAY_SECONDS,
                options={"require": ["exp", "iss", "aud", "sub"]},
            )  # fmt: skip
        except jwt.PyJWTError as error:
            raise UnauthorizedError(
                f"the token does not hold: {error}", where="Authorization", remedy="get a new one from its issuer"
            ) from error
        return _read_identity(issuer, claims)


def _read_identity(issuer: Issuer, claims: Mapping[str, Any]) -> Identity:
    name, groups, audiences = claims.get(issuer.name), claims.get(issuer.groups, ()), claims["aud"]
    if not isinstance(name, str) or not name.strip() or not name.isprintable():
        raise UnauthorizedError(f"the token says no {issuer.name}", where="Authorization")
    if issuer.name == "email" and claims.get("email_verified") is not True:
        raise UnauthorizedError("the token's mail address is not verified", where="Authorization")
    return Identity(
        issuer=issuer.issuer,
        name=name,
        groups=(groups,) if isinstance(groups, str) else tuple(each for each in groups if isinstance(each, str)),
        audiences=(audiences,) if isinstance(audiences, str) else tuple(audiences),
        expires=float(claims["exp"]),
    )


def build_kubernetes_issuer(server: str, account: Path, audiences: tuple[str, ...]) -> Issuer:
    """The API server at `server` as the issuer of service accounts' tokens; its name is in our own token.

    Raises InvalidInputError where that cannot be read.
    """
    try:
        own = jwt.decode((account / "token").read_text(encoding="utf-8").strip(), options={"verify_signature": False})
        name = own["iss"]
    except (OSError, jwt.PyJWTError, KeyError) as error:
        raise InvalidInputError(f"is no service account's token: {error}", where=str(account / "token")) from error
    url = server.rstrip("/") + "/openid/v1/jwks"
    return Issuer(
        str(name), " ".join(audiences), jwks=url, ca=str(account / "ca.crt"), credential=str(account / "token")
    )
