"""Annotated texts, in the formats that are around: presidio-research's JSON, MultiDoGO's TSV, and our own lines.

Our own: one JSON object a line with `id`, `text` and `spans` [{start, end, type}]. Every file may be gzipped.
"""

import csv
import gzip
import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from pilotage_core.errors import InvalidInputError
from pilotage_core.pii import PiiType, Span

TYPES: dict[str, PiiType] = {
    "PERSON": PiiType.NAME, "GPE": PiiType.PLACE, "STREET_ADDRESS": PiiType.PLACE, "ZIP_CODE": PiiType.PLACE,
    "LOCATION": PiiType.PLACE, "ORGANIZATION": PiiType.ORGANIZATION, "NRP": PiiType.GROUP, "TITLE": PiiType.TITLE,
    "AGE": PiiType.AGE, "DATE_TIME": PiiType.DATE, "EMAIL_ADDRESS": PiiType.EMAIL, "PHONE_NUMBER": PiiType.PHONE,
    "CREDIT_CARD": PiiType.CARD, "IBAN_CODE": PiiType.IBAN, "US_SSN": PiiType.ID, "US_DRIVER_LICENSE": PiiType.ID,
    "IP_ADDRESS": PiiType.ADDRESS, "DOMAIN_NAME": PiiType.URL,
}  # fmt: skip
"""presidio-research's types as ours."""
SLOTS: dict[str, PiiType] = {
    "name": PiiType.NAME, "email_address": PiiType.EMAIL, "phone_number": PiiType.PHONE, "ssn": PiiType.ID,
    "address": PiiType.PLACE, "card_number": PiiType.CARD, "account_number": PiiType.ID, "policyid": PiiType.ID,
    "claimid": PiiType.ID, "target_account_number": PiiType.ID,
}  # fmt: skip
"""MultiDoGO's slots that say who somebody is, as ours. Cars, amounts and times of transactions do not."""


@dataclass(frozen=True, slots=True)
class Text:
    """A text with what is personal in it. `group` is what it was made from: texts of one group are no two samples."""

    id: str
    text: str
    spans: tuple[Span, ...]
    group: str = ""


def read_texts(path: Path) -> list[Text]:
    """All of a file. Raises InvalidInputError naming the line or the entry."""
    try:
        data = gzip.decompress(path.read_bytes()) if path.suffix == ".gz" else path.read_bytes()
        text = data.decode("utf-8-sig")
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInputError(f"cannot be read: {error}", where=str(path)) from error
    try:
        if ".tsv" in path.suffixes:
            return list(_read_multidogo(text))
        return list(_read_presidio(text) if text.lstrip().startswith("[") else _read_lines(text))
    except (ValueError, KeyError, TypeError) as error:
        raise InvalidInputError(
            f"is in no format that is known: {error!r}", where=str(path), remedy="lines of {id, text, spans}"
        ) from error


def _read_presidio(text: str) -> Iterator[Text]:
    for number, entry in enumerate(json.loads(text)):
        spans = tuple(
            Span(span["start_position"], span["end_position"], TYPES[span["entity_type"]]) for span in entry["spans"]
        )
        yield Text(str(number), entry["full_text"], tuple(sorted(spans)), str(entry.get("template_id", number)))


def _read_lines(text: str) -> Iterator[Text]:
    for number, line in enumerate(text.splitlines()):
        if line.strip():
            entry = json.loads(line)
            spans = (Span(span["start"], span["end"], PiiType(span["type"])) for span in entry.get("spans", ()))
            yield Text(
                str(entry.get("id", number)), entry["text"], tuple(sorted(spans)), str(entry.get("group", number))
            )


def _read_multidogo(text: str) -> Iterator[Text]:
    """Tokens are parted by blanks; a label of each, without B and I: neighbours of one label are one span."""
    for row in csv.DictReader(text.splitlines(), delimiter="\t", quoting=csv.QUOTE_NONE):
        words, labels = (row["utterance"] or "").split(" "), (row["slot-labels"] or "").split(" ")
        at, spans = 0, list[Span]()
        for word, label in zip(words, labels, strict=False):
            type_ = SLOTS.get(label)
            if type_ is not None and word:
                if spans and spans[-1].type is type_ and spans[-1].end == at - 1:
                    spans[-1] = Span(spans[-1].start, at + len(word), type_)
                else:
                    spans.append(Span(at, at + len(word), type_))
            at += len(word) + 1
        yield Text(row["utteranceId"], " ".join(words), tuple(spans), row["conversationId"])
