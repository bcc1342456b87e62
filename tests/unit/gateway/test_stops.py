"""Who may stop process clusters, and who may let them go on: by a credential that needs nobody else to be there."""

import hashlib
import json
from pathlib import Path

import pytest

from pilotage_core.errors import InvalidInputError
from pilotage_core.wire import CREDENTIAL_HEADER
from pilotage_gateway.access import ForbiddenError, UnauthorizedError
from pilotage_gateway.credentials import StopFile

ON_CALL, LEAD = "on-call-credential", "lead-credential"


def line(name: str, credential: str, **more: object) -> dict:
    return {"name": name, "sha256": hashlib.sha256(credential.encode()).hexdigest(), **more}


LINES = [line("on call", ON_CALL), line("lead", LEAD, resumes=True)]


@pytest.fixture
def path(tmp_path) -> Path:
    found = tmp_path / "stops.json"
    found.write_text(json.dumps(LINES))
    return found


def test_the_one_may_stop_and_the_other_let_go_on_too(path):
    stops = StopFile(path)
    assert stops.identify(ON_CALL, stops=True) == "on call"
    assert stops.identify(LEAD, stops=True) == stops.identify(LEAD, stops=False) == "lead"
    with pytest.raises(ForbiddenError, match="may stop and not let go on"):
        stops.identify(ON_CALL, stops=False)
    for credential in ("", "else", ON_CALL.upper(), LINES[0]["sha256"]):
        with pytest.raises(UnauthorizedError):
            stops.identify(credential, stops=True)


def test_a_change_counts_at_once_and_a_file_that_is_broken_or_gone_opens_nothing(path):
    stops = StopFile(path)
    path.write_text("[")
    assert stops.identify(LEAD, stops=False) == "lead"
    path.unlink()
    with pytest.raises(UnauthorizedError):
        stops.identify("else", stops=True)
    path.write_text(json.dumps([line("new", "new-credential")]))
    assert stops.identify("new-credential", stops=True) == "new"
    with pytest.raises(UnauthorizedError):
        stops.identify(LEAD, stops=True)


def test_until_there_has_been_a_file_everybody_may(tmp_path):
    path = tmp_path / "later.json"
    stops = StopFile(path)
    assert not stops.is_kept
    path.write_text(json.dumps(LINES))
    assert stops.is_kept
    with pytest.raises(UnauthorizedError):
        stops.identify("", stops=True)


@pytest.mark.parametrize("text", ["[", "{}", '[{"name": "a"}]', '[{"name": "a", "sha256": "short"}]'])
def test_a_file_that_cannot_be_read_at_the_start_is_named(tmp_path, text):
    (tmp_path / "stops.json").write_text(text)
    with pytest.raises(InvalidInputError, match="cannot be read"):
        StopFile(tmp_path / "stops.json")


async def test_over_the_whole_way_nobody_lets_go_what_they_may_only_stop(world, path):
    async with world.gateway() as gateway:
        gateway.app.state.stops = StopFile(path)
        url, stop = (
            f"{gateway.url}/v1/suspend",
            {"process_cluster": "*", "suspended": True, "who": "kim", "why": "drill"},
        )

        async def send(body: dict, credential: str) -> int:
            async with gateway.client.post(url, json=body, headers={CREDENTIAL_HEADER: credential}) as answer:
                return answer.status

        assert await send(stop, "else") == 401
        assert (await gateway.get("/v1/status"))[1]["suspended"] == []
        assert await send(stop, ON_CALL) == 200
        assert await send({**stop, "suspended": False}, ON_CALL) == 403
        assert (await gateway.get("/v1/status"))[1]["suspended"] == ["*"]
        assert await send({**stop, "suspended": False}, LEAD) == 200
        assert (await gateway.get("/v1/status"))[1]["suspended"] == []
