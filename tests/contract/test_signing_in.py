"""People's tokens, as a real OpenID provider makes them: discovery, code flow, keys."""

import json
import urllib.parse
import urllib.request
import warnings
from collections.abc import Iterator

import pytest

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
