"""Tokens are checked here, against kept keys: only what a known issuer signed for this gateway, now, says who somebody
is.
"""

import base64
import json
import time

import jwt
import pytest
from stubs.issuer import elliptic_key, run_issuer

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_gateway.access import UnauthorizedError
from pilotage_gateway.tokens import (
    AGAIN_SECONDS,
    LONGEST_TOKEN,
    REFRESH_SECONDS,
    Issuer,
    Tokens,
    build_kubernetes_issuer,
)


class Clock:
    now = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
async def issuer():
    async with run_issuer() as found:
        yield found


@pytest.fixture
def clock():
    return Clock()


@pytest.fixture
def tokens(issuer, clock):
    return Tokens((Issuer(issuer.url, "pilotage"),), clock)


async def test_a_token_of_the_issuer_says_who_somebody_is(issuer, tokens):
    found = await tokens.identify(issuer.sign(groups=["desk", 7], aud=["else", "pilotage"]))
    assert (found.issuer, found.name, found.groups, found.audiences) == (
        issuer.url, "kim", ("desk",), ("else", "pilotage"),
    )  # fmt: skip
    for _ in range(3):
        await tokens.identify(issuer.sign(sub="ann"))
    assert issuer.asked == 1, "keys are kept"


@pytest.mark.parametrize(
    ("claims", "why"),
    [
        ({"exp": 1}, "expired"),
        ({"exp": None}, "exp"),
        ({"nbf": 99999999999}, "not yet valid"),
        ({"aud": "another-service"}, "[Aa]udience"),
        ({"aud": None}, "aud"),
        ({"sub": None}, "sub"),
        ({"sub": "two\nlines"}, "says no sub"),
    ],
)
async def test_a_token_that_does_not_hold_is_refused_with_its_reason(issuer, tokens, claims, why):
    with pytest.raises(UnauthorizedError, match=why):
        await tokens.identify(issuer.sign(**claims))


async def test_only_the_issuers_own_public_keys_sign(issuer, tokens):
    good = issuer.sign()
    head, body, signature = good.split(".")
    forged = body[:-4] + ("AAAA" if body[-4:] != "AAAA" else "BBBB")
    none = base64.urlsafe_b64encode(json.dumps({"alg": "none", "kid": "one"}).encode()).decode().rstrip("=")
    shared = base64.urlsafe_b64decode("c2hhcmVkLXNlY3JldC1vZi1ldmVyeWJvZHktaGVyZS0h")
    for token in (
        f"{none}.{body}.",
        f"{none}.{body}.{signature}",
        issuer.sign("other"),
        issuer.sign("one", "ES256", elliptic_key()),
        issuer.sign("one", "PS256"),
        issuer.sign("shared", "HS256", shared),
        issuer.sign("odd"),
    ):
        with pytest.raises(UnauthorizedError):
            await tokens.identify(token)
    for token in (f"{head}.{forged}.{signature}", "a.b.c", "no token", "..", good + "x" * LONGEST_TOKEN):
        try:
            assert await tokens.identify(token) is None
        except UnauthorizedError:
            assert token.startswith(head)
    assert await tokens.identify(jwt.encode({"iss": "https://else", "sub": "kim"}, "x" * 32)) is None


async def test_a_token_that_names_no_key_is_checked_by_the_only_one(issuer, clock):
    tokens = Tokens((Issuer(issuer.url, "pilotage"),), clock)
    assert (await tokens.identify(issuer.sign("one", headers={}))).name == "kim"
    with pytest.raises(UnauthorizedError):
        await tokens.identify(issuer.sign("other", headers={}))
    issuer.kids = ["one", "two"]
    clock.now += REFRESH_SECONDS + 1
    with pytest.raises(UnauthorizedError):
        await tokens.identify(issuer.sign("one", sub="which", headers={}))


async def test_a_new_key_is_found_soon_and_a_removed_one_counts_no_longer_than_keys_are_kept(issuer, tokens, clock):
    await tokens.identify(issuer.sign())
    issuer.kids = ["two"]
    clock.now += AGAIN_SECONDS
    assert (await tokens.identify(issuer.sign("two", sub="new"))).name == "new"
    with pytest.raises(UnauthorizedError):
        await tokens.identify(issuer.sign("one", sub="late"))
    asked = issuer.asked
    for _ in range(5):
        with pytest.raises(UnauthorizedError):
            await tokens.identify(issuer.sign("nobody's"))
    assert issuer.asked == asked, "whoever invents keys makes nobody ask"


async def test_an_issuer_that_is_down_stops_nobody_it_has_let_in_before(issuer, tokens, clock):
    issuer.is_down = True
    with pytest.raises(UnavailableError, match="not known yet"):
        await tokens.identify(issuer.sign())
    issuer.is_down = False
    clock.now += AGAIN_SECONDS
    await tokens.identify(issuer.sign())
    issuer.is_down = True
    clock.now += 10 * REFRESH_SECONDS
    assert (await tokens.identify(issuer.sign(sub="still here"))).name == "still here"


async def test_what_a_token_said_is_remembered_within_its_life_alone(issuer, tokens, monkeypatch):
    async def refuse(_: str) -> None:
        raise UnauthorizedError("looked at again")

    token = issuer.sign()
    found = await tokens.identify(token)
    monkeypatch.setattr(tokens, "_check", refuse)
    assert await tokens.identify(token) == found
    later = time.time() + 400
    monkeypatch.setattr(time, "time", lambda: later)
    with pytest.raises(UnauthorizedError, match="looked at again"):
        await tokens.identify(token)


async def test_a_mail_address_counts_once_it_is_verified(issuer):
    tokens = Tokens((Issuer(issuer.url, "pilotage", name="email"),))
    mail = {"email": "kim@example.org"}
    assert (await tokens.identify(issuer.sign(**mail, email_verified=True))).name == "kim@example.org"
    for claims in (mail, mail | {"email_verified": "true"}, {"email_verified": True}):
        with pytest.raises(UnauthorizedError):
            await tokens.identify(issuer.sign(**claims))


async def test_keys_come_from_a_file_too_and_by_https_alone(issuer, tmp_path):
    path = tmp_path / "keys.json"
    response = await issuer.show_keys(None)
    path.write_bytes(response.body)
    tokens = Tokens((Issuer("https://login.example.org", "pilotage", jwks=str(path)),))
    assert (await tokens.identify(issuer.sign(iss="https://login.example.org"))).name == "kim"
    plain = Tokens((Issuer("http://login.example.org", "pilotage"),))
    with pytest.raises(UnavailableError):
        await plain.identify(issuer.sign(iss="http://login.example.org"))


def test_kubernetes_is_the_issuer_that_our_own_token_names(issuer, tmp_path):
    (tmp_path / "token").write_text(issuer.sign(iss="https://kubernetes.default.svc"))
    found = build_kubernetes_issuer("https://10.0.0.1:443", tmp_path, ("a", "b"))
    assert (found.issuer, found.audience) == ("https://kubernetes.default.svc", "a b")
    assert found.jwks == "https://10.0.0.1:443/openid/v1/jwks"
    (tmp_path / "token").write_text("nothing")
    with pytest.raises(InvalidInputError, match="service account"):
        build_kubernetes_issuer("https://10.0.0.1:443", tmp_path, ("a",))
