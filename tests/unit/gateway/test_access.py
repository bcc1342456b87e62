"""Who may do what: every endpoint against every kind of caller, over the whole way."""

import hashlib
import json

import pytest
from stubs.gateway import FORM, Case, build_leave, build_snapshot, run_gateway
from stubs.issuer import run_issuer
from stubs.postgres import database_of

from pilotage_core.errors import InvalidInputError
from pilotage_core.events import Author, MessagePosted, SessionOpened
from pilotage_core.source import Source
from pilotage_core.stage import Stage
from pilotage_gateway.access import NOBODY_ASKS, ROLES, Act, Caller, Grant, Held, Role
from pilotage_gateway.callers import Access, AccessFile, Callers, ServiceAccounts, check_access
from pilotage_gateway.credentials import SecretFile
from pilotage_gateway.tokens import Issuer, Tokens

BPM, OTHER_BPM, SCRAPER = "secret-of-the-bpm-0001", "secret-of-the-shop-0001", "secret-of-prometheus"


def sha256(secret: str) -> str:
    return hashlib.sha256(secret.encode()).hexdigest()


def build_access(issuer: str, **more: object) -> dict:
    return {
        "issuers": [{"issuer": issuer, "audience": "pilotage"}],
        "grants": [
            {"role": "operator", "namespaces": ["star"], "issuer": issuer, "groups": ["desk"]},
            {"role": "supervisor", "namespaces": ["star"], "issuer": issuer, "names": ["sam"]},
            {"role": "supervisor", "namespaces": ["*"], "issuer": issuer, "names": ["head"]},
            {"role": "auditor", "namespaces": ["*"], "issuer": issuer, "names": ["ann"]},
            {"role": "auditor", "namespaces": ["shop"], "issuer": issuer, "names": ["shop-auditor"]},
        ],
        "sources": [{"source": "crm", "namespaces": ["star"], "issuer": issuer, "names": ["crm-adapter"]}],
        "programs": [
            {"name": "prometheus", "sha256": sha256(SCRAPER), "role": "monitor", "namespaces": ["*"]},
            {"name": "trainer", "sha256": sha256("secret-of-trainer"), "role": "reader", "namespaces": ["star"]},
        ],
    } | more


@pytest.fixture
async def gateway(world, tmp_path):
    """A gateway that knows sources, an issuer and what it may grant; `tokens` by who shows them."""
    (tmp_path / "sources.json").write_text(json.dumps([
        {"source": "bank", "namespaces": ["star"], "secret": BPM},
        {"source": "shop", "namespaces": ["shop"], "secret": OTHER_BPM},
    ]))  # fmt: skip
    async with run_issuer() as issuer:
        path = tmp_path / "access.json"
        path.write_text(json.dumps(build_access(issuer.url)))
        accounts = ServiceAccounts(Tokens((Issuer(issuer.url, "pilotage-gateway pilotage-export"),)), "pilotage-system")
        callers = Callers(SecretFile(tmp_path / "sources.json"), AccessFile(path))
        world.controller.publish(build_snapshot(build_leave(Stage.COPILOT, world.models.url)))
        async with run_gateway(database_of(tmp_path), world.controller_url, world.folder / "keys", callers) as made:
            await made.until_permit()
            made.issuer, made.access, made.accounts, made.shown = issuer, path, accounts, {}
            yield made


def shows(gateway, who: str) -> dict[str, str]:
    if who == "nobody":
        return {}
    if who not in gateway.shown:  # a signature takes a while
        gateway.shown[who] = _find_token(gateway, who)
    return {"authorization": f"Bearer {gateway.shown[who]}"}


def _find_token(gateway, who: str) -> str:
    known = {
        "bank": BPM,
        "shop": OTHER_BPM,
        "prometheus": SCRAPER,
        "trainer": "secret-of-trainer",
        "forged": "secret-of-nobody-at-all",
    }
    if who == "desk-member":
        return gateway.issuer.sign(sub="opal", groups=["desk"])
    return known.get(who) or gateway.issuer.sign(sub=who)


EVERYBODY = (
    "nobody", "forged", "stranger", "bank", "shop", "crm-adapter", "desk-member", "sam", "head", "ann", "shop-auditor",
    "trainer", "prometheus",
)  # fmt: skip
OPEN = {
    "/v1/sessions/36": {"bank": 200},  # by the name that its source has for it
    "/v1/sessions/bank~36": {"desk-member": 200, "sam": 200, "head": 200, "ann": 200},
    "/v1/export?process_cluster=star/bookings": {"ann": 200, "trainer": 200},
    "/v1/labels?process_cluster=star/bookings": {"ann": 200, "trainer": 200},
    "/v1/labels": {"ann": 200},
    "/v1/status": dict.fromkeys(set(EVERYBODY) - {"nobody", "forged", "stranger"}, 200),
    "/metrics": dict.fromkeys(EVERYBODY, 200),
    "/healthz": dict.fromkeys(EVERYBODY, 200),
    "/readyz": dict.fromkeys(EVERYBODY, 200),
}
"""Who is let in where; everybody else is told 401, 403, or, of what is there but not theirs, 404."""


async def test_each_endpoint_lets_in_those_that_it_is_for_and_nobody_else(gateway):
    case = Case(gateway, "36")
    case.headers = shows(gateway, "bank")
    turn = await case.begin(screen=FORM)
    assert turn.decision == "propose"
    allowed = OPEN | {
        f"/v1/decisions/{turn.proposal.proposal_id}": dict.fromkeys(("desk-member", "sam", "head", "ann"), 409)
    }
    for path, let_in in allowed.items():
        name, _, query = path.partition("?")
        params = dict(part.split("=") for part in query.split("&")) if query else {}
        for who in EVERYBODY:
            status, _ = await gateway.get(name, headers=shows(gateway, who), **params)
            if who in let_in:
                assert status == let_in[who], (path, who)
            elif who in ("nobody", "forged"):
                assert status == 401, (path, who)
            else:
                assert status in (403, 404), (path, who)


PAGES = {
    "/console/?queue": {"desk-member", "sam", "head", "ann", "shop-auditor"},
    "/console/sessions/bank~36": {"desk-member", "sam", "head", "ann"},
    "/console/stream?key=bank~37": set(),
    "/console/ledger": {"sam", "head", "ann", "shop-auditor"},
    "/console/process-clusters": set(EVERYBODY) - {"nobody", "forged", "stranger", "bank", "shop", "crm-adapter"},
    "/console/process-clusters/star/bookings": {"desk-member", "sam", "head", "ann", "trainer", "prometheus"},
}  # fmt: skip
"""Who sees which page of the console; strangers are asked who they are."""


async def test_each_page_of_the_console_is_for_those_whose_role_says_so(gateway):
    case = Case(gateway, "36")
    case.headers = shows(gateway, "bank")
    await case.begin(screen=FORM)
    for path, let_in in PAGES.items():
        for who in EVERYBODY:
            headers = shows(gateway, who)
            async with gateway.client.get(gateway.url + path, headers=headers, allow_redirects=False) as answer:
                status = answer.status
            if who in ("nobody", "forged"):
                assert status == 303, (path, who)
            else:
                assert status == 200 if who in let_in else status in (403, 404), (path, who, status)


@pytest.mark.parametrize(
    ("who", "more", "status"),
    [
        ("sam", {}, 303),
        ("sam", {"Origin": "https://evil.example"}, 403),
        ("sam", {"Sec-Fetch-Site": "cross-site"}, 403),
        ("sam", {"Sec-Fetch-Site": "same-origin"}, 303),
        ("desk-member", {}, 403),
        ("bank", {}, 404),
        ("forged", {}, 401),
    ],
)
async def test_holding_at_the_console_takes_a_supervisor_and_a_page_of_ours(gateway, who, more, status):
    case = Case(gateway, "36")
    case.headers = shows(gateway, "bank")
    await case.begin(screen=FORM)
    url = f"{gateway.url}/console/process-clusters/star/bookings/hold"
    form = {"hold": "true", "why": "a drill"}
    headers = shows(gateway, who) | more
    async with gateway.client.post(url, data=form, headers=headers, allow_redirects=False) as answer:
        assert answer.status == status
    assert (status == 303) == ("star/bookings" in gateway.app.state.turns.suspended)


async def test_what_somebody_stopped_elsewhere_is_not_let_go_at_the_console(gateway):
    case = Case(gateway, "36")
    case.headers = shows(gateway, "bank")
    await case.begin(screen=FORM)
    body = {"process_cluster": "star/bookings", "suspended": True, "who": "sam", "why": "a fire"}
    assert (await gateway.post("/v1/suspend", body, **shows(gateway, "sam")))[0] == 200
    url = f"{gateway.url}/console/process-clusters/star/bookings/hold"
    async with gateway.client.post(url, data={"hold": "false"}, headers=shows(gateway, "sam")) as answer:
        assert (answer.status, "a fire" in await answer.text()) == (409, True)
    assert "star/bookings" in gateway.app.state.turns.suspended


async def test_posting_takes_a_source_whatever_else_somebody_may(gateway):
    for who in set(EVERYBODY) - {"bank", "shop", "crm-adapter"}:
        case = Case(gateway, "37")
        case.headers = shows(gateway, who)
        status, _ = await case.refused(SessionOpened({}))
        assert status == (401 if who in ("nobody", "forged") else 403), who
    crm = Case(gateway, "37")
    crm.headers = shows(gateway, "crm-adapter")
    assert (await crm.begin(screen=FORM)).process_cluster == "star/bookings"
    assert (await gateway.get("/v1/sessions/crm~37", headers=shows(gateway, "ann")))[0] == 200


async def test_who_stops_and_who_lets_go_on(gateway):
    async def suspend(who: str, key: str, suspended: bool) -> int:
        body = {"process_cluster": key, "suspended": suspended, "who": "x", "why": "y"}
        return (await gateway.post("/v1/suspend", body, **shows(gateway, who)))[0]

    assert await suspend("nobody", "*", True) == 200, "whoever is here may stop"
    for who, key, status in [
        ("nobody", "*", 403), ("forged", "*", 401), ("bank", "*", 403), ("ann", "*", 403), ("desk-member", "*", 403),
        ("sam", "*", 403), ("head", "*", 200),
    ]:  # fmt: skip
        assert await suspend(who, key, False) == status, who
    assert await suspend("sam", "star/bookings", True) == 200
    assert await suspend("sam", "star/bookings", False) == 200
    assert await suspend("sam", "shop/orders", True) == 403


async def test_metrics_are_closed_where_the_file_says_so_and_a_change_counts_at_once(gateway):
    gateway.access.write_text(json.dumps(build_access(gateway.issuer.url, open_metrics=False)))
    for who in EVERYBODY:
        status, _ = await gateway.get("/metrics", headers=shows(gateway, who))
        closed = 401 if who in ("nobody", "forged") else 403
        assert status == (200 if who in ("prometheus", "ann") else closed), who
    gateway.access.write_text("[")
    assert (await gateway.get("/metrics"))[0] == 401, "the last good one stays"
    gateway.access.write_text(json.dumps(build_access(gateway.issuer.url, grants=[])))
    assert (await gateway.get("/v1/labels", headers=shows(gateway, "ann")))[0] == 403


async def test_a_service_account_does_what_its_token_was_made_for_in_its_own_namespace(gateway):
    def sign(name: str, audience: str) -> str:
        return gateway.issuer.sign(sub=name, aud=audience)

    accounts = gateway.accounts
    adapter = await accounts.identify(sign("system:serviceaccount:bank:adapter", "pilotage-gateway"))
    assert (adapter.source, adapter.held) == (Source("sa:bank", ("bank",)), ()), "a source called bank is another one"
    job = await accounts.identify(sign("system:serviceaccount:bank:default", "pilotage-export"))
    assert job.source is None
    assert job.may(Act.EXPORT, "bank")
    assert not job.may(Act.EXPORT, "shop")
    assert not job.may(Act.EXPORT)
    assert not any(job.may(act, "bank") for act in set(Act) - {Act.EXPORT, Act.READ_STATUS})
    home = await accounts.identify(sign("system:serviceaccount:pilotage-system:pilotage-controller", "pilotage-export"))
    assert home.may(Act.EXPORT)
    assert not home.may(Act.STOP)
    assert await accounts.identify(sign("kim", "pilotage-gateway")) is None


async def test_a_source_that_may_no_more_be_served_somewhere_has_no_sessions_there(gateway, tmp_path):
    case = Case(gateway, "39")
    case.headers = shows(gateway, "bank")
    await case.begin(screen=FORM)
    lines = json.loads((tmp_path / "sources.json").read_text())
    (tmp_path / "sources.json").write_text(json.dumps([{**lines[0], "namespaces": ["shop"]}]))
    assert (await gateway.get("/v1/sessions/39", headers=shows(gateway, "bank")))[0] == 404
    assert (await case.refused(MessagePosted(Author.CUSTOMER, "Hello?")))[0] == 404


async def test_the_status_tells_of_ones_own_namespaces(gateway):
    for who, seen in [
        ("bank", {"star/bookings"}),
        ("shop", set()),
        ("sam", {"star/bookings"}),
        ("ann", {"star/bookings"}),
    ]:
        _, status = await gateway.get("/v1/status", headers=shows(gateway, who))
        assert set(status["process_clusters"]) == seen, who


async def test_a_first_file_that_is_broken_is_as_none_and_stops_nobody_else(tmp_path):
    secrets, access = SecretFile(tmp_path / "sources.json"), AccessFile(tmp_path / "access.json")
    for path in (tmp_path / "sources.json", tmp_path / "access.json"):
        path.write_text("[{")
    assert await secrets.identify("x" * 20) is None
    assert await access.identify("x" * 20) is None
    assert access.open_metrics
    for name in ("sa:bank", "a~b"):
        (tmp_path / "sources.json").write_text(json.dumps([{"source": name, "namespaces": [], "secret": "x" * 20}]))
        with pytest.raises(InvalidInputError, match="cannot be called"):
            SecretFile(tmp_path / "sources.json")


def test_a_role_counts_in_its_namespaces_alone():
    caller = Caller("kim", None, (Held(Role.AUDITOR, ("a", "b")),))
    assert caller.may(Act.EXPORT, "a")
    assert not caller.may(Act.EXPORT, "c")
    assert not caller.may(Act.EXPORT, "")
    assert caller.where(Act.EXPORT) == {"a", "b"}
    assert NOBODY_ASKS.where(Act.STOP) is None
    assert all(NOBODY_ASKS.may(act) for act in Act)
    assert {role for roles in ROLES.values() for role in roles} == set(Role)
    assert set(ROLES) == set(Act)


def test_names_of_one_issuer_are_nobody_for_another():
    grant = Grant(Role.AUDITOR, ("*",), "https://a", names=("kim",), groups=("all",))
    assert grant.is_for("https://a", "kim", ())
    assert grant.is_for("https://a", "else", ("all",))
    assert not grant.is_for("https://b", "kim", ("all",))


@pytest.mark.parametrize(
    ("changes", "why"),
    [
        ({"issuers": [{"issuer": "http://login.example.org", "audience": "pilotage"}]}, "https alone"),
        ({"issuers": [{"issuer": "https://a", "audience": " "}], "grants": [], "sources": []}, "which audience"),
        ({"grants": [{"role": "auditor", "namespaces": ["*"], "issuer": "https://b"}]}, "not among the issuers"),
        ({"grants": [{"role": "auditor", "namespaces": [], "issuer": "https://a"}]}, "no namespace"),
        ({"programs": [{"name": "x", "sha256": "plain", "role": "reader", "namespaces": ["*"]}]}, "64 hex digits"),
        ({"grants": [{"role": "god", "namespaces": ["*"], "issuer": "https://a"}]}, "god"),
        ({"grant": []}, "grant"),
    ],
)
def test_a_file_that_cannot_be_meant_is_refused_with_what_is_wrong(tmp_path, changes, why):
    path = tmp_path / "access.json"
    path.write_text(json.dumps(build_access("https://a") | changes))
    with pytest.raises(InvalidInputError, match=why):
        AccessFile(path)


def test_a_file_that_comes_later_lets_nobody_in_before(tmp_path):
    file = AccessFile(tmp_path / "later.json")
    assert file.open_metrics
    check_access(Access())
