"""Rules and tagger together: what is personal in a text, and files of texts masked, checked and counted.

A file is JSON lines with `id` and `text`; texts of one `session` (else: of one `id`) share their masks. What is written
is looked through once more: a surface form that was masked somewhere in a session and still stands there is a leak.
"""

import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.pii import Masks, PiiType, Span, find_by_rule, fold, merge
from pilotage_trainer.privacy.tagger import Tagger

LEAST_FORM = 4
"""A shorter form stands by chance in other words."""
Find = Callable[[str], list[Span]]


class Line(msgspec.Struct):
    """One line of what comes in; whatever else it holds is dropped, as nobody has looked at it."""

    id: str | int
    text: str
    session: str | int | None = None


class MaskedLine(msgspec.Struct, omit_defaults=True):
    """One line of what goes out."""

    id: str | int
    text: str
    session: str | int | None = None


class SpanLine(msgspec.Struct):
    """One span that was found: characters `start` to `end` of the text that came in."""

    id: str | int
    start: int
    end: int
    type: str


@dataclass
class Report:
    """What a run did: texts, spans by type, and leaks (id, form)."""

    texts: int = 0
    spans: Counter[str] = field(default_factory=Counter)
    leaks: list[tuple[str, str]] = field(default_factory=list)


def build_find(tagger: Tagger | None) -> Find:
    """Rules alone, or with a tagger."""
    if tagger is None:
        return find_by_rule
    return lambda text: join(text, merge(find_by_rule(text), tagger.find(text)))


def join(text: str, spans: Iterable[Span]) -> list[Span]:
    """`spans` with neighbours of one type joined where only blanks part them, and blanks at their ends left out."""
    found: list[Span] = []
    for span in spans:
        given = text[span.start : span.end]
        start, end = span.start + len(given) - len(given.lstrip()), span.end - len(given) + len(given.rstrip())
        if start >= end:
            continue
        last = found[-1] if found else None
        if last is not None and last.type is span.type and text[last.end : start].strip() == "":
            found[-1] = Span(last.start, end, span.type)
        else:
            found.append(Span(start, end, span.type))
    return found


def read_lines(lines: Iterable[bytes], where: str) -> Iterator[Line]:
    """Lines of a file. Raises InvalidInputError naming the line."""
    decode = msgspec.json.Decoder(Line).decode
    for number, line in enumerate(lines, 1):
        if line.strip():
            try:
                yield decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InvalidInputError(
                    f"{error}", where=f"{where}:{number}", remedy='a line is {"id": …, "text": …}'
                ) from error


def anonymise(
    lines: Iterable[Line], find: Find, write: Callable[[Any], None], write_span: Callable[[Any], None]
) -> Report:
    """Mask `lines`, one after the other; sessions may be mixed. Gives what was done, and what leaked."""
    report, sessions = Report(), dict[str, Masks]()
    written: dict[str, list[tuple[str, str]]] = {}
    for line in lines:
        spans = find(line.text)
        key = str(line.id if line.session is None else line.session)
        masks = sessions.setdefault(key, Masks())
        masked = masks.mask(line.text, spans)
        report.texts += 1
        for span in spans:
            report.spans[span.type.value] += 1
            write_span(SpanLine(line.id, span.start, span.end, span.type.value))
        write(MaskedLine(line.id, masked, line.session))
        written.setdefault(key, []).append((str(line.id), masked))
    for key, texts in written.items():
        report.leaks += find_leaks(sessions[key], texts)
    return report


def find_leaks(masks: Masks, texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(id, form) of what was masked in a session and stands in a text of it all the same; and what rules still find."""
    masked = (given for mask, given in masks.forms.items() if not mask.startswith(f"<{PiiType.MASK}_"))
    forms = {form for given in masked for form in given if len(form) >= LEAST_FORM}
    pattern = re.compile("|".join(rf"(?<!\w){re.escape(form)}(?!\w)" for form in sorted(forms, key=len, reverse=True)))
    for name, text in texts:
        for match in pattern.finditer(text) if forms else ():
            yield name, match.group()
        for span in find_by_rule(text):
            if span.type is not PiiType.MASK:
                yield name, fold(span.type, text[span.start : span.end])
