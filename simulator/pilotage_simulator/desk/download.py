"""The Schema-Guided Dialogue set from where it is published, as the project's figures were reached with it.

Of 97 training files the first 85 % each; result lists are cut to five rows, or to the last one that was offered before
the same service was asked again. The digest is over the lines that come of it.
"""

import gzip
import hashlib
import json
import math
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from pilotage_core.errors import EvidenceError
from pilotage_simulator.published import download, read_archive

COMMIT = "e852981ae34990f4358979625854259302feaa78"
ARCHIVE = f"https://codeload.github.com/google-research-datasets/dstc8-schema-guided-dialogue/tar.gz/{COMMIT}"
DIGEST = "efca93cfe1648bcaf24199edc2b80e111b9cf85b3694b05b7e52acb69cd03b28"
SCHEMA_DIGEST = "97b6c21673aa7e5c2d1ceef52aa35170c565223cdcbf33bb24c69739bda04a82"
DIALOGUES, SCHEMA = "dialogues.jsonl.gz", "schema.json"
LEFT_OUT = frozenset({37, *range(52, 57), 58, 60, 66, 68, *range(70, 86), 93, 94, 104, 117, 118})
"""Training files that no figure rests on."""
SHARE = 0.85
FEWEST_ROWS = 5
REMEDY = "give SGD=<dialogues.jsonl.gz>, its schema.json beside it"

_USED = re.compile(r"^[^/]+/train/(dialogues_\d+\.json|schema\.json)$")


def download_sgd() -> Path:
    """The file of dialogues, downloaded once. Raises UnavailableError, or EvidenceError where a digest differs."""
    return download(ARCHIVE, f"sgd-{COMMIT[:12]}", DIALOGUES, unpack_archive, REMEDY) / DIALOGUES


def unpack_archive(archive: Path, folder: Path, digest: str = DIGEST, schema_digest: str = SCHEMA_DIGEST) -> None:
    """Write what sgd.py reads of `archive` to `folder`. Raises EvidenceError where the content has another digest."""
    folder.mkdir()
    found, schema = hashlib.sha256(), b""
    with gzip.open(folder / DIALOGUES, "wb") as lines:
        for name, content in read_archive(archive, _USED, REMEDY):
            if name == SCHEMA:
                schema = content
            elif int(name.removesuffix(".json").rpartition("_")[2]) not in LEFT_OUT:
                for line in list_lines(json.loads(content)):
                    found.update(line)
                    lines.write(line)
    (folder / SCHEMA).write_bytes(schema)
    for what, is_now, wanted in (
        (DIALOGUES, found.hexdigest(), digest),
        (SCHEMA, hashlib.sha256(schema).hexdigest(), schema_digest),
    ):
        if is_now != wanted:
            raise EvidenceError(f"{what} has digest {is_now}, not {wanted}", where=ARCHIVE, remedy=REMEDY)


def list_lines(dialogues: Sequence[dict[str, Any]]) -> Iterator[bytes]:
    """The lines of one file's dialogues: the first of them, their result lists cut."""
    for dialogue in dialogues[: math.ceil(len(dialogues) * SHARE)]:
        cuts = [
            (frame, find_rows(dialogue["turns"][number:], frame))
            for number, turn in enumerate(dialogue["turns"])
            for frame in turn["frames"]
            if frame.get("service_results") is not None
        ]
        for frame, rows in cuts:
            frame["service_results_total"] = len(frame["service_results"])
            frame["service_results"] = frame["service_results"][:rows]
        yield json.dumps(dialogue, separators=(",", ":")).encode() + b"\n"


def find_rows(turns: Sequence[dict[str, Any]], frame: dict[str, Any]) -> int:
    """How many rows of the results in `frame` are kept, by the `turns` from its own on."""
    rows, last = frame["service_results"], 0
    frames = [each for turn in turns if turn["speaker"] == "SYSTEM" for each in turn["frames"]]
    for each in frames:
        if each["service"] != frame["service"]:
            continue
        if "service_results" in each and each is not frame:
            break
        offered = {act["slot"]: act["canonical_values"] for act in each["actions"] if act["act"] == "OFFER"}
        wanted = {slot: values[0] for slot, values in offered.items() if values}
        if wanted:
            alike = (n for n, row in enumerate(rows, 1) if all(row.get(slot) == wanted[slot] for slot in wanted))
            last = max(last, next(alike, 0))
    return max(FEWEST_ROWS, last)
