"""The published archive: only its pinned content is used, and only the dialogues that the figures rest on."""

import gzip
import io
import json
import tarfile

import pytest

from pilotage_core.errors import EvidenceError
from pilotage_simulator.download import LAST_DIALOGUE, digest_files, select_dialogues, unpack_archive
from pilotage_simulator.star import load_star, read_dialogues

FILES = {
    "dialogues/2.json": {"DialogueID": 2, "AnonymizedWizardWorkerID": "w", "Scenario": {"Happy": True}, "Events": []},
    "apis/apis/weather.json": {"input": [{"Name": "City", "Type": "ShortString"}]},
    "tasks/weather/weather.json": {"replies": {"hello": "Hello", "yes": "Yes"}},
    "tasks/weather/responses.json": {"bye": "Bye"},
}


@pytest.fixture
def archive(tmp_path):
    path = tmp_path / "star.tar.gz"
    with tarfile.open(path, "w:gz") as members:
        for name, content in {**FILES, "README.md": {}, "../dialogues/9.json": {}}.items():
            body = json.dumps(content).encode()
            member = tarfile.TarInfo(f"STAR-abc/{name}")
            member.size = len(body)
            members.addfile(member, io.BytesIO(body))
    return path


def test_an_archive_with_the_pinned_content_becomes_a_data_set(archive, tmp_path):
    digest = digest_files({path: json.dumps(content).encode() for path, content in FILES.items()})
    unpack_archive(archive, tmp_path / "star", digest)
    star = load_star(tmp_path / "star")
    assert [dialogue.dialogue_id for dialogue in read_dialogues(star.dialogues)] == [2]
    assert star.procedures["weather"].replies == {"bye": "Bye", "hello": "Hello"}


def test_other_content_is_refused(archive, tmp_path):
    with pytest.raises(EvidenceError, match="digest"):
        unpack_archive(archive, tmp_path / "star")
    assert not (tmp_path / "star").exists()


def test_what_is_no_archive_is_refused(tmp_path):
    path = tmp_path / "x.tar.gz"
    path.write_bytes(gzip.compress(b"no tar"))
    with pytest.raises(EvidenceError, match="no readable archive"):
        unpack_archive(path, tmp_path / "star")


def test_the_newest_dialogues_and_the_published_test_part_are_left_out():
    def made(number, happy):
        return {"DialogueID": number, "Scenario": {"Happy": happy}, "Events": []}

    every = [made(n, happy=n <= 1300) for n in range(1, LAST_DIALOGUE + 50)]
    kept = [dialogue["DialogueID"] for dialogue in select_dialogues(every)]
    assert kept == [*range(1, 1230), *range(1301, LAST_DIALOGUE + 1)]
