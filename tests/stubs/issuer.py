"""An issuer of tokens on loopback: keys that can change, a discovery document, tokens that say what a test wants."""

import time
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import jwt
from aiohttp import web
from cryptography.hazmat.primitives.asymmetric import ec, rsa

from stubs.gateway import serve

RSA_KEYS: dict[str, rsa.RSAPrivateKey] = {}


def rsa_key(name: str) -> rsa.RSAPrivateKey:
    """A key, made once for all tests: it takes a while."""
    return RSA_KEYS.setdefault(name, rsa.generate_private_key(65537, 2048))


class StubIssuer:
    """Signs by `kid`; `kids` are those it publishes. `asked` counts requests for its keys."""

    def __init__(self) -> None:
        self.url = ""
        self.kids = ["one"]
        self.asked = 0
        self.is_down = False

    def sign(
        self, kid: str = "one", algorithm: str = "RS256", key: Any = None, headers: Any = None, **claims: Any
    ) -> str:
        """A token for audience pilotage that holds for five minutes, but for what `claims` say (None: left out)."""
        headers = {"kid": kid} if headers is None else headers
        now = int(time.time())
        said = {"iss": self.url, "aud": "pilotage", "sub": "kim", "iat": now, "exp": now + 300} | claims
        return jwt.encode(
            {k: v for k, v in said.items() if v is not None}, key or rsa_key(kid), algorithm, headers=headers
        )

    async def show_keys(self, _request: web.Request) -> web.Response:
        self.asked += 1
        if self.is_down:
            return web.Response(status=503)
        rsa_keys = [
            jwt.algorithms.RSAAlgorithm.to_jwk(rsa_key(kid).public_key(), as_dict=True) | {"kid": kid, "use": "sig"}
            for kid in self.kids
        ]
        shared = {"kty": "oct", "kid": "shared", "k": "c2hhcmVkLXNlY3JldC1vZi1ldmVyeWJvZHktaGVyZS0h", "alg": "HS256"}
        odd = {"kty": "none", "kid": "odd"}
        return web.json_response({"keys": [odd, shared, *rsa_keys]})

    async def discover(self, _request: web.Request) -> web.Response:
        return web.json_response({"issuer": self.url, "jwks_uri": f"{self.url}/keys"})


@asynccontextmanager
async def run_issuer() -> AsyncIterator[StubIssuer]:
    """A StubIssuer that answers."""
    issuer = StubIssuer()
    routes = [web.get("/keys", issuer.show_keys), web.get("/.well-known/openid-configuration", issuer.discover)]
    async with serve(routes) as url:
        issuer.url = url
        yield issuer


def elliptic_key() -> ec.EllipticCurvePrivateKey:
    """A key of another kind."""
    return ec.generate_private_key(ec.SECP256R1())
