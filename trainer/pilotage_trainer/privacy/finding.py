"""Rules and tagger together: what is personal in a text, and files of texts masked, checked and counted.

A file is JSON lines with `id` and `text`; texts of one `session` (else: each by itself) share their masks. A tagger
goes by what stands around a name, and may miss it in the next text: what was found once in a session is masked wherever
it stands in it. What is written is looked through once more; what still stands then is a leak.
"""

import codecs
import re
from collections import Counter
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from pilotage_core.errors import InvalidInputError
from pilotage_core.pii import MASK, Masks, PiiType, Span, find_by_rule, fold, merge
from pilotage_trainer.privacy.tagger import Tagger
from pilotage_trainer.privacy.words import read_words

LEAST_FORM, MOST_ROUNDS = 3, 5
"""A shorter form stands by chance elsewhere; what masks uncover is looked at so often."""
WORD = re.compile(r"\w+")
OWN = frozenset({PiiType.EMAIL, PiiType.CARD, PiiType.IBAN})
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
    """Lines of a file. Raises InvalidInputError naming the line; also where its id or session is somebody's own.

    Those are written as they are: a mail address for a name would be all that masks hide.
    """
    decode = msgspec.json.Decoder(Line).decode
    for number, given in enumerate(lines, 1):
        line = given.removeprefix(codecs.BOM_UTF8) if number == 1 else given
        if line.strip():
            try:
                found = decode(line)
            except (msgspec.DecodeError, UnicodeDecodeError) as error:
                raise InvalidInputError(
                    f"{error}", where=f"{where}:{number}", remedy='a line is {"id": …, "text": …}'
                ) from error
            for name in ("id", "session"):
                value = str(getattr(found, name) or "")
                told = {span.type for span in find_by_rule(value) if span.end - span.start == len(value)}
                if told & OWN:
                    raise InvalidInputError(
                        f"{name} is personal itself ({', '.join(sorted(told & OWN))})", where=f"{where}:{number}",
                        remedy="give a number or a digest in its place",
                    )  # fmt: skip
            yield found


def anonymise(
    lines: Iterable[Line], find: Find, write: Callable[[Any], None], write_span: Callable[[Any], None]
) -> Report:
    """Mask `lines`; sessions may be mixed. Texts are held until all of a session is known, which is at the end."""
    report, all_lines = Report(), list(lines)
    spans = [find(line.text) for line in all_lines]
    sessions: dict[tuple[str, str], list[int]] = {}
    for place, line in enumerate(all_lines):
        named = line.session not in (None, "")
        sessions.setdefault(("session", str(line.session)) if named else ("line", str(place)), []).append(place)
    masked = [""] * len(all_lines)
    for places in sessions.values():
        known = find_known(
            (all_lines[place].text[span.start : span.end], span.type)
            for place in places
            for span in spans[place]
            if span.type in LASTING
        )
        masks = Masks()
        for place in places:
            text = all_lines[place].text
            spans[place] = complete(text, spans[place], known)
            masked[place] = masks.mask(text, spans[place])
        report.leaks += find_leaks(known, [(str(all_lines[place].id), masked[place]) for place in places])
    for line, found, text in zip(all_lines, spans, masked, strict=True):
        report.texts += 1
        report.spans.update(span.type.value for span in found)
        for span in found:
            write_span(SpanLine(line.id, span.start, span.end, span.type.value))
        write(MaskedLine(line.id, text, line.session))
    return report


LASTING = frozenset(PiiType) - {PiiType.MASK, PiiType.AGE, PiiType.DATE, PiiType.TITLE, PiiType.GROUP}
"""What is somebody's wherever it stands. A day or a profession is, only where it is said of somebody."""
Known = dict[str, PiiType]
"""Folded forms that are masked throughout a session: words by one blank."""


def find_known(forms: Iterable[tuple[str, PiiType]]) -> Known:
    """What to look for in a session: each form, and each word of a name; but no word that anybody uses."""
    words, known = read_words(), Known()
    for form, type_ in forms:
        folded = _fold_words(form)
        for text in (" ".join(folded), *(folded if type_ is PiiType.NAME else ())):
            if len(text) >= LEAST_FORM and "common" not in words.get(text, ()):
                known[text] = type_
    return known


def complete(text: str, spans: Iterable[Span], known: Known) -> list[Span]:
    """`spans` with what of `known` stands elsewhere in `text`, and what rules find once all that is masked."""
    found = list(spans)
    for _ in range(MOST_ROUNDS):
        rest = list(text)
        for span in found:
            rest[span.start : span.end] = "\0" * (span.end - span.start)
        plain = "".join(rest)
        more = list(find_forms(plain, known))
        more = merge(find_by_rule(plain), more)
        more = [span for span in more if "\0" not in plain[span.start : span.end]]
        if not more:
            break
        found += more
    return sorted(found)


def find_forms(text: str, known: Known) -> Iterator[Span]:
    """Where forms of `known` stand in `text`, the longest first, word by word, however they are spelt."""
    if not known:
        return
    words = [(match.start(), match.end(), _fold_words(match.group())) for match in WORD.finditer(text)]
    longest, at = max(form.count(" ") + 1 for form in known), 0
    while at < len(words):
        for count in range(min(longest, len(words) - at), 0, -1):
            part = words[at : at + count]
            type_ = known.get(" ".join(word for _, _, folded in part for word in folded))
            if type_ is not None:
                yield Span(part[0][0], part[-1][1], type_)
                at += count - 1
                break
        at += 1


def find_leaks(known: Known, texts: Iterable[tuple[str, str]]) -> Iterator[tuple[str, str]]:
    """(id, what kind of thing) that is masked in a session and stands in a text all the same, or that rules find."""
    for name, text in texts:
        plain = MASK.sub(lambda match: "\0" * len(match.group()), text)
        for span in find_forms(plain, known):
            yield name, span.type.value
        for span in find_by_rule(plain):
            yield name, span.type.value


def _fold_words(text: str) -> list[str]:
    return WORD.findall(fold(PiiType.PLACE, text))
