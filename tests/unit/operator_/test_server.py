"""The controller's HTTP face: permits, pace, metrics, probes, and what malformed requests get."""

import msgspec
import pytest
from aiohttp.test_utils import TestClient, TestServer

from pilotage_core.boot_clock import boot_seconds
from pilotage_core.problem import Problem
from pilotage_core.snapshot import DECODE_PART, Parts, assemble
from pilotage_core.stage import Stage
from pilotage_core.wire import Leave, Pace, PermitReply, PermitRequest
from pilotage_operator.callers import SharedSecret
from pilotage_operator.keys import make_key
from pilotage_operator.metrics import Metrics
from pilotage_operator.permits import Authority
from pilotage_operator.server import build_app

SECRET = "a-secret-of-gateways"


@pytest.fixture
async def client():
    async def remember(epoch: int) -> None:
        return

    authority = Authority("d", 1, make_key(), remember)
    metrics = Metrics()
    metrics.set_stage("star/one", Stage.COPILOT)
    paces = [Pace("one", "star", Stage.COPILOT, "", "Feedback", True)]
    async with TestClient(TestServer(build_app(authority, metrics, lambda: paces, SharedSecret(SECRET)))) as found:
        found.authority = authority
        found.session.headers["Authorization"] = f"Bearer {SECRET}"
        yield found


def body(**fields: object) -> bytes:
    return msgspec.json.encode(PermitRequest("g", "n", **fields))


async def test_before_the_first_sweep_it_is_not_ready_and_says_when_to_come_back(client):
    assert (await client.get("/readyz")).status == 503
    answer = await client.post("/v1/permits", data=body())
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")


async def test_a_permit_and_its_snapshot_are_given(client):
    client.authority.publish(Parts((Leave("one", "star", Stage.COPILOT),)))
    answer = await client.post("/v1/permits", data=body())
    reply = msgspec.json.decode(await answer.read(), type=PermitReply)
    assert assemble(DECODE_PART(body) for body in reply.parts.values()).leaves[0].key == "star/one"
    assert (await client.get("/readyz")).status == 503, "what is signed now gives no leave"
    client.authority.confirm(boot_seconds())
    assert await (await client.get("/readyz")).text() == "ok, leading"


@pytest.mark.parametrize(("synced", "status", "said"), [(True, 200, "ok, standby"), (False, 503, "no full sweep yet")])
async def test_a_standby_is_ready_once_it_has_seen_all_that_a_leader_has_to_know(synced, status, said):
    async def remember(epoch: int) -> None:
        return

    authority = Authority("d", 0, make_key(), remember)
    app = build_app(authority, Metrics(), list, SharedSecret(SECRET), lambda: synced)
    async with TestClient(TestServer(app)) as standby:
        answer = await standby.get("/readyz")
        assert (answer.status, await answer.text()) == (status, said)


@pytest.mark.parametrize(
    ("data", "status", "where"),
    [
        (b"{", 400, "body"),
        (b"[]", 400, "body"),
        (b'{"gateway": "g"}', 400, "body"),
        (b'{"gateway": "g", "nonce": 5}', 400, "body"),
        (b'{"gateway": "g", "nonce": ""}', 422, "nonce"),
        (b'{"gateway": "g", "nonce": "n", "highest_epoch": -4}', 422, "highest_epoch"),
        (b'{"gateway": "g", "nonce": "n", "highest_epoch": 99999999999999999999}', 422, "highest_epoch"),
    ],
)
async def test_a_malformed_request_gets_a_problem_that_names_its_field(client, data, status, where):
    client.authority.publish(Parts(()))
    answer = await client.post("/v1/permits", data=data)
    problem = msgspec.json.decode(await answer.read(), type=Problem)
    assert (answer.status, problem.where) == (status, where)
    assert problem.detail


async def test_a_body_that_is_too_large_is_refused(client):
    assert (await client.post("/v1/permits", data=b"x" * 20_000)).status == 413


async def test_pace_and_metrics_can_be_read(client):
    assert await (await client.get("/v1/process-clusters")).json() == [
        {
            "name": "one",
            "namespace": "star",
            "stage": "Copilot",
            "held_by": "",
            "pipeline": "Feedback",
            "wants_sessions": True,
        }
    ]
    text = await (await client.get("/metrics")).text()
    assert 'pilotage_stage{process_cluster="star/one",stage="Copilot"} 1.0' in text
    assert text.count('pilotage_stage{process_cluster="star/one"') == 1
    assert (await client.get("/healthz")).status == 200


@pytest.mark.parametrize("header", [None, "", "Bearer", "Bearer wrong", f"Basic {SECRET}", f"Bearer {SECRET}x"])
async def test_nobody_but_a_gateway_gets_permits_or_is_believed_an_epoch(client, header):
    client.authority.publish(Parts((Leave("one", "star", Stage.COPILOT),)))
    headers = {} if header is None else {"Authorization": header}
    client.session.headers.pop("Authorization")
    answer = await client.post("/v1/permits", data=body(highest_epoch=2**52), headers=headers)
    assert answer.status == 401
    assert client.authority.epoch == 1
