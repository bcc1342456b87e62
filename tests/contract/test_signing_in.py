"""People's tokens, as a real OpenID provider makes them: discovery, code flow, keys."""

import json
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator

import aiohttp
import pytest
import yarl
from stubs.gateway import LONG_TAIL, StubController, build_snapshot, run_controller, run_gateway

from pilotage_core.errors import InvalidInputError
from pilotage_gateway.access import Act, UnauthorizedError
from pilotage_gateway.callers import AccessFile, Callers

with warnings.catch_warnings():
    warnings.simplefilter("ignore")
    import oidc_provider_mock

pytestmark = pytest.mark.filterwarnings("ignore::DeprecationWarning")
CLIENT, REDIRECT = "pilotage", "http://127.0.0.1/back"


class KeepRedirects(urllib.request.HTTPRedirectHandler):
    def redirect_request(self, *_: object) -> None:
        return None


@pytest.fixture
def issuer() -> Iterator[str]:
    people = (
        oidc_provider_mock.User(
            sub="kim", claims={"email": "kim@example.org", "email_verified": True, "groups": ["desk"]}
        ),
        oidc_provider_mock.User(sub="lee", claims={"email": "lee@example.org", "groups": ["desk"]}),
    )
    with oidc_provider_mock.run_server_in_thread(user_claims=people) as server:
        yield f"http://127.0.0.1:{server.server_port}"


def sign_in(issuer: str, sub: str) -> str:
    """The ID token that the provider gives for `sub`."""
    query = urllib.parse.urlencode({
        "client_id": CLIENT, "redirect_uri": REDIRECT, "response_type": "code", "scope": "openid email", "state": "s",
        "nonce": "n",
    })  # fmt: skip
    opener = urllib.request.build_opener(KeepRedirects)
    try:
        opener.open(f"{issuer}/oauth2/authorize?{query}", urllib.parse.urlencode({"sub": sub}).encode())
        pytest.fail("no redirect")
    except urllib.error.HTTPError as answer:
        code = urllib.parse.parse_qs(urllib.parse.urlsplit(answer.headers["location"]).query)["code"][0]
    form = urllib.parse.urlencode({
        "grant_type": "authorization_code", "code": code, "redirect_uri": REDIRECT, "client_id": CLIENT,
        "client_secret": "any",
    })  # fmt: skip
    with urllib.request.urlopen(f"{issuer}/oauth2/token", form.encode()) as answer:
        return str(json.load(answer)["id_token"])


async def test_a_person_signs_in_and_has_the_roles_that_the_file_gives(issuer, tmp_path):
    path = tmp_path / "access.json"
    path.write_text(json.dumps({
        "issuers": [{"issuer": issuer, "audience": CLIENT, "name": "email"}],
        "grants": [{"role": "supervisor", "namespaces": ["star"], "issuer": issuer, "names": ["kim@example.org"]}],
    }))  # fmt: skip
    callers = Callers(AccessFile(path))
    caller = await callers.identify("Bearer " + sign_in(issuer, "kim"))
    assert caller.name == "kim@example.org"
    assert caller.may(Act.STOP, "star")
    assert not caller.may(Act.STOP, "shop")
    with pytest.raises(UnauthorizedError, match="not verified"):
        await callers.identify("Bearer " + sign_in(issuer, "lee"))


async def test_a_token_for_another_client_is_nobodys(issuer, tmp_path):
    path = tmp_path / "access.json"
    path.write_text(json.dumps({"issuers": [{"issuer": issuer, "audience": "another"}]}))
    with pytest.raises(UnauthorizedError, match="does not hold"):
        await Callers(AccessFile(path)).identify("Bearer " + sign_in(issuer, "kim"))
    path.write_text(json.dumps({"issuers": [{"issuer": issuer, "audience": ""}]}))
    with pytest.raises(InvalidInputError, match="which audience"):
        AccessFile(path)


class Browser:
    """Keeps cookies, follows redirects, and signs in as `sub` where a provider asks."""

    def __init__(self, client: aiohttp.ClientSession, sub: str) -> None:
        self.client, self.sub, self.seen = client, sub, []

    async def open(self, url: str) -> tuple[int, str]:
        for _ in range(8):
            self.seen.append(url)
            if "/oauth2/authorize" in url:
                answer = await self.client.post(url, data={"sub": self.sub}, allow_redirects=False)
            else:
                answer = await self.client.get(url, allow_redirects=False)
            async with answer:
                if answer.status not in (302, 303):
                    return answer.status, await answer.text()
                url = urllib.parse.urljoin(url, answer.headers["location"])
        raise AssertionError(self.seen)


@pytest.fixture
async def console(issuer, tmp_path):
    (tmp_path / "secret").write_text("any")
    (tmp_path / "access.json").write_text(json.dumps({
        "issuers": [{
            "issuer": issuer, "audience": CLIENT, "name": "email", "sign_in": True,
            "client_secret": f"{tmp_path}/secret",
        }],
        "grants": [{"role": "operator", "namespaces": ["star"], "issuer": issuer, "names": ["kim@example.org"]}],
    }))  # fmt: skip
    callers = Callers(AccessFile(tmp_path / "access.json"))
    controller = StubController(build_snapshot(LONG_TAIL))
    controller.write_key(tmp_path / "keys")
    async with (
        run_controller(controller) as url,
        run_gateway(f"sqlite:///{tmp_path}/g.db", url, tmp_path / "keys", callers) as gateway,
        aiohttp.ClientSession(cookie_jar=aiohttp.CookieJar(unsafe=True)) as client,
    ):
        yield gateway.url + "/console", client


async def test_a_person_signs_in_at_the_console_with_a_real_provider(console, issuer):
    address, client = console
    browser = Browser(client, "kim")
    status, page = await browser.open(f"{address}/")
    assert (status, "Sign in with" in page) == (200, True)
    status, page = await browser.open(f"{address}/sign-in?issuer={urllib.parse.quote(issuer)}")
    assert (status, "kim@example.org" in page) == (200, True), page
    cookies = {cookie.key: cookie for cookie in client.cookie_jar}
    kept = cookies["pilotage_console"]
    assert (kept["httponly"], kept["path"], kept["samesite"]) == (True, "/console", "lax")
    assert "pilotage_signing_in" not in cookies


async def test_a_sign_in_that_somebody_else_began_is_told_and_lets_nobody_in(console, issuer):
    address, client = console
    browser = Browser(client, "kim")
    await browser.open(f"{address}/sign-in?issuer={urllib.parse.quote(issuer)}")
    back = next(url for url in browser.seen if "/signed-in" in url)
    client.cookie_jar.clear()
    status, page = await browser.open(back)
    assert (status, "not begun here" in page) == (401, True)
    async with client.get(f"{address}/sign-in?issuer={urllib.parse.quote(issuer)}", allow_redirects=False) as answer:
        assert answer.status == 303  # begun here, and come back with another one's state
    status, page = await browser.open(back)
    assert (status, "not begun here" in page) == (401, True)
    assert "pilotage_console" not in {cookie.key for cookie in client.cookie_jar}


async def test_a_person_without_a_role_is_told_and_can_leave(console, issuer):
    address, client = console
    client.cookie_jar.update_cookies({"pilotage_console": sign_in(issuer, "kim") + "x"}, yarl.URL(address))
    status, page = await Browser(client, "kim").open(f"{address}/")
    assert (status, "Sign in with" in page) == (200, True)
