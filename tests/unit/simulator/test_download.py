"""The published archive: only its pinned content is used, and only the dialogues that the figures rest on."""

import copy
import gzip
import hashlib
import io
import json
import re
import tarfile

import pytest

from pilotage_core.errors import EvidenceError, UnavailableError
from pilotage_simulator.desk import download as sgd
from pilotage_simulator.download import LAST_DIALOGUE, digest_files, select_dialogues, unpack_archive
from pilotage_simulator.published import download, read_archive
from pilotage_simulator.star import load_star, read_dialogues

FILES = {
    "dialogues/2.json": {"DialogueID": 2, "AnonymizedWizardWorkerID": "w", "Scenario": {"Happy": True}, "Events": []},
    "apis/apis/weather.json": {"input": [{"Name": "City", "Type": "ShortString"}]},
    "tasks/weather/weather.json": {"replies": {"hello": "Hello", "yes": "Yes"}},
    "tasks/weather/responses.json": {"bye": "Bye"},
}


@pytest.fixture
def archive(tmp_path):
    return pack(tmp_path / "star.tar.gz", {**FILES, "README.md": {}, "../dialogues/9.json": {}})


def pack(path, files):
    with tarfile.open(path, "w:gz") as members:
        for name, content in files.items():
            body = json.dumps(content).encode()
            member = tarfile.TarInfo(f"made-abc/{name}")
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


# --- the Schema-Guided Dialogue set -----------------------------------------------------------------------------------
def frame(*acts, results=None, service="Rooms_1"):
    made = {"service": service, "actions": [{"act": "OFFER", "slot": "hotel", "canonical_values": [a]} for a in acts]}
    return made if results is None else {**made, "service_results": [{"hotel": name} for name in results]}


def dialogue(*frames):
    return {"dialogue_id": "1_00000", "turns": [{"speaker": "SYSTEM", "frames": [each]} for each in frames]}


@pytest.mark.parametrize(
    ("frames", "kept"),
    [
        ((frame("A", results="ABCDEFGH"),), 5),
        ((frame("A", results="ABC"),), 3),
        ((frame("A", results="ABCDEFGH"), frame("G")), 7),
        ((frame("A", results="ABCDEFGH"), frame("G", service="Other_1")), 5),
        ((frame("A", results="ABCDEFGH"), frame("B", results="BG"), frame("G")), 5),
    ],
)
def test_result_lists_are_cut_to_five_rows_or_the_last_one_offered(frames, kept):
    made = copy.deepcopy(dialogue(*frames))
    cut = json.loads(next(sgd.list_lines([made])))["turns"][0]["frames"][0]
    assert (len(cut["service_results"]), cut["service_results_total"]) == (kept, len(frames[0]["service_results"]))


def test_the_desk_s_archive_is_used_by_file_and_share_and_checked_by_digest(tmp_path):
    files = {"train/schema.json": [], "train/dialogues_037.json": [dialogue()] * 9, "dev/dialogues_001.json": [1]}
    files["train/dialogues_001.json"] = [{**dialogue(), "dialogue_id": str(n)} for n in range(7)]
    path = pack(tmp_path / "sgd.tar.gz", files)
    with pytest.raises(EvidenceError, match=r"dialogues\.jsonl\.gz has digest \w+, not efca93"):
        sgd.unpack_archive(path, tmp_path / "other")
    lines = [json.dumps({**dialogue(), "dialogue_id": str(n)}, separators=(",", ":")) + "\n" for n in range(6)]
    digests = (hashlib.sha256("".join(lines).encode()).hexdigest(), hashlib.sha256(b"[]").hexdigest())
    sgd.unpack_archive(path, tmp_path / "sgd", *digests)
    with gzip.open(tmp_path / "sgd" / "dialogues.jsonl.gz", "rt") as found:
        assert list(found) == lines


def test_an_archive_is_fetched_once(tmp_path, monkeypatch):
    monkeypatch.setenv("PILOTAGE_CACHE", str(tmp_path / "cache"))
    archive = pack(tmp_path / "a.tar.gz", {"x.json": [1]})

    def unpack(source, folder):
        folder.mkdir()
        for name, content in read_archive(source, re.compile(r"^[^/]+/(x\.json)$"), "look again"):
            (folder / name).write_bytes(content)

    first = download(archive.as_uri(), "made", "x.json", unpack, "look again")
    archive.unlink()
    assert download(archive.as_uri(), "made", "x.json", unpack, "look again") == first == tmp_path / "cache" / "made"
    with pytest.raises(UnavailableError, match="cannot be downloaded"):
        download(archive.as_uri(), "other", "x.json", unpack, "look again")
