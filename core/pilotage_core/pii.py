"""Personal data that a rule can tell: patterns, with a checksum where there is one. And masks for what was found.

Pure. What only words around it tell (names, places) is a tagger's (trainer/pilotage_trainer/privacy). Sources of the
checksums: ISO/IEC 7812-1 annex B (Luhn), ISO 13616 (IBAN, mod 97).
"""

import bisect
import ipaddress
import re
import string
import unicodedata
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from enum import StrEnum
from functools import lru_cache


class PiiType(StrEnum):
    """What kind of personal data a span is; the word stands in its mask."""

    NAME = "NAME"
    PLACE = "PLACE"
    ORGANIZATION = "ORGANIZATION"
    GROUP = "GROUP"  # nationality, religion, political group
    TITLE = "TITLE"  # forms of address, professions
    AGE = "AGE"
    DATE = "DATE"
    EMAIL = "EMAIL"
    PHONE = "PHONE"
    CARD = "CARD"
    IBAN = "IBAN"
    ID = "ID"  # numbers of persons: social security, passport, licence, account
    ADDRESS = "ADDRESS"  # of a computer: IP, MAC
    URL = "URL"
    MASK = "MASK"  # what somebody typed that looks like a mask


@dataclass(frozen=True, slots=True, order=True)
class Span:
    """Characters `start` to `end` of a text (end not included) are of `type`."""

    start: int
    end: int
    type: PiiType


MASK = re.compile(r"<[A-Z]{2,20}_[A-Z]{1,3}>")
_EMAIL = re.compile(r"[\w.%+'-]{1,64}@\w(?:[\w.-]{0,250}\w)?")
_URL = re.compile(
    r"\b(?:https?://[^\s<>\"']{1,2000}|www\.[^\s<>\"']{1,2000}"
    r"|(?:[a-z0-9](?:[a-z0-9-]{0,61}[a-z0-9])?\.){1,5}(?:com|org|net|edu|gov|info|biz|io|co|me|us|uk|de|fr|es|it|nl|be|se|no|"
    r"fi|dk|pl|cz|at|ch|pt|hu|ro|gr|ie|ee|lt|lv|si|sk|hr|is|ca|au|nz|za|br|mx|ar|cl|jp|cn|kr|in|ru|ua|tr|il|cy|mt|lu)"
    r"(?:\.[a-z]{2})?(?:/[^\s<>\"']{0,500})?)",
    re.IGNORECASE,
)
_IPV4 = re.compile(r"(?<![\d.])(?:\d{1,3}\.){3}\d{1,3}(?![\d.]*\d)")
_IPV6 = re.compile(r"(?<![\w:])[0-9a-fA-F:]{3,39}(?![\w:])")
_MAC = re.compile(r"(?<![\w:-])(?:[0-9a-fA-F]{2}[:-]){5}[0-9a-fA-F]{2}(?![\w:-])")
_CARD = re.compile(r"(?<!\d)(?<!\d-)\d(?:[ ._/-]{0,3}\d){11,40}")
_IBAN = re.compile(r"(?<![A-Za-z0-9])[A-Z]{2}\d{2}(?: ?[A-Z0-9]){11,30}(?![A-Za-z0-9])", re.IGNORECASE)
_SSN = re.compile(r"(?<![\d-])(?!000|666|9\d\d)\d{3}[- ](?!00)\d{2}[- ](?!0000)\d{4}(?![\d-])")
_PHONE = re.compile(
    r"(?<![\w.])(?:\+\d{1,3}|00\d{1,3}|001)?[ .-]?(?:\(\d{1,5}\)[ .-]?)?\d{1,5}(?:[ .-]\d{2,9}){1,5}"
    r"(?: ?(?:x|ext\.?) ?\d{1,6})?(?![\w-])"
)
_LONG = re.compile(r"(?<![\w.,-])(?:[A-Za-z]{0,4}\d{7,20})(?!\w)")
_DATE = re.compile(
    r"(?<![\d/.-])(?:\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2}))"
    r"(?:[ T]\d{1,2}:\d{2}(?::\d{2})?)?(?![\d/]|-\d)"
)
_MONTH = (
    r"(?:jan(?:uary)?|feb(?:ruary)?|mar(?:ch)?|apr(?:il)?|may|june?|july?|aug(?:ust)?|sep(?:t(?:ember)?)?|oct(?:ober)?|"
    r"nov(?:ember)?|dec(?:ember)?)"
)
_WORDED = re.compile(
    rf"\b(?:\d{{1,2}}(?:st|nd|rd|th)?(?: of)? {_MONTH}|{_MONTH}\.? \d{{1,2}}(?:st|nd|rd|th)?)(?:,? \d{{4}})?\b",
    re.IGNORECASE,
)
MOST_PHONE_DIGITS, LEAST_PHONE_DIGITS = 15, 7


def find_by_rule(text: str) -> list[Span]:
    """What rules find in `text`, in order, without overlaps: of two, the earlier rule's. Never raises."""
    taken: list[Span] = []
    for span in _find_all(_plain(text)):
        at = bisect.bisect_left(taken, span)
        before, after = taken[at - 1] if at else None, taken[at] if at < len(taken) else None
        if (before is None or before.end <= span.start) and (after is None or span.end <= after.start):
            taken.insert(at, span)
    return taken


def _plain(text: str) -> str:
    """`text` with every kind of blank, dash and digit as the usual one; as long as before, so that spans stay right."""
    if text.isascii() and "\t" not in text:
        return text
    return "".join(_plain_character(character) for character in text)


@lru_cache(maxsize=4096)
def _plain_character(character: str) -> str:
    if character == "\t" or unicodedata.category(character) == "Zs":
        return " "
    if unicodedata.category(character) == "Pd" or character == "\u2212":
        return "-"
    if character.isdecimal():
        return str(unicodedata.decimal(character))
    folded = unicodedata.normalize("NFKC", character)
    return folded if len(folded) == 1 else character


def _find_all(text: str) -> Iterator[Span]:
    for type_, pattern in ((PiiType.MASK, MASK), (PiiType.EMAIL, _EMAIL)):
        yield from (Span(*match.span(), type_) for match in pattern.finditer(text))
    for match in _URL.finditer(text):
        end = match.start() + len(match.group().rstrip(".,;:!?)]}'\""))
        yield Span(match.start(), end, PiiType.URL)
    for match in _IBAN.finditer(text):
        found = _trim_iban(match.group())
        if found:
            yield Span(match.start(), match.start() + len(found), PiiType.IBAN)
    for match in _CARD.finditer(text):
        found = _trim_card(match.group())
        if found:
            yield Span(match.start(), match.start() + len(found), PiiType.CARD)
    for match in _IPV4.finditer(text):
        if all(int(part) <= 255 for part in match.group().split(".")):
            yield Span(*match.span(), PiiType.ADDRESS)
    yield from (Span(*match.span(), PiiType.ADDRESS) for match in _MAC.finditer(text))
    for match in _IPV6.finditer(text):
        if match.group().count(":") > 1 and any(map(str.isalnum, match.group())) and _is_ipv6(match.group()):
            yield Span(*match.span(), PiiType.ADDRESS)
    yield from (Span(*match.span(), PiiType.ID) for match in _SSN.finditer(text))
    for pattern in (_DATE, _WORDED):
        yield from (Span(*match.span(), PiiType.DATE) for match in pattern.finditer(text))
    for match in _PHONE.finditer(text):
        digits = sum(character.isdigit() for character in match.group())
        if LEAST_PHONE_DIGITS <= digits <= MOST_PHONE_DIGITS:
            skip = len(match.group()) - len(match.group().lstrip(" .-"))
            yield Span(match.start() + skip, match.end(), PiiType.PHONE)
    yield from (Span(*match.span(), PiiType.ID) for match in _LONG.finditer(text))


def _is_ipv6(text: str) -> bool:
    try:
        ipaddress.IPv6Address(text)
    except ValueError:
        return False
    return True


def is_luhn(text: str) -> bool:
    """Whether the digits of `text` end in their check digit."""
    digits = [int(character) for character in text if character.isdigit()]
    doubled = sum(sum(divmod(2 * digit, 10)) for digit in digits[-2::-2])
    return len(digits) >= 12 and len(set(digits)) > 1 and (doubled + sum(digits[::-2])) % 10 == 0


def is_iban(text: str) -> bool:
    """Whether `text` is an IBAN by its check digits."""
    packed = text.replace(" ", "")
    if not 15 <= len(packed) <= 34:
        return False
    moved = packed[4:] + packed[:4]
    return int("".join(str(int(character, 36)) for character in moved)) % 97 == 1


def _trim_iban(text: str) -> str:
    """`text` without words that follow it; empty where no start of it is an IBAN."""
    for end in range(len(text), 14, -1):
        if text[end - 1] != " " and is_iban(text[:end]):
            return text[:end]
    return ""


def _trim_card(text: str) -> str:
    """`text` without numbers that follow a card's (its month, its code); empty where no start of it is one's."""
    ends = [i + 1 for i, character in enumerate(text) if character.isdigit()]
    for count in range(min(19, len(ends)), 11, -1):
        is_apart = count == len(ends) or ends[count] - ends[count - 1] > 1
        if is_apart and is_luhn(text[: ends[count - 1]]):
            return text[: ends[count - 1]]
    return ""


def merge(rules: Iterable[Span], tagged: Iterable[Span]) -> list[Span]:
    """Spans of both, in order, without overlaps. A rule's stand as they are; of a tagger's, what lies outside."""
    kept = sorted(rules)
    found = list(kept)
    for span in tagged:
        start = span.start
        for other in kept:
            if other.end <= start or other.start >= span.end:
                continue
            if start < other.start:
                found.append(Span(start, other.start, span.type))
            start = max(start, other.end)
        if start < span.end:
            found.append(Span(start, span.end, span.type))
    return sorted(found)


# --- masks -----------------------------------------------------------------------------------------------------------
@dataclass
class Masks:
    """The masks of one session: the same for the same thing, however it is spelt; they mean nothing in another one."""

    _by_form: dict[tuple[PiiType, str], str] = field(default_factory=dict)
    _count: dict[PiiType, int] = field(default_factory=dict)
    _fullest: dict[str, frozenset[str]] = field(default_factory=dict)
    forms: dict[str, set[str]] = field(default_factory=dict)
    """Mask to everything that it stood for."""

    def mask(self, text: str, spans: Iterable[Span]) -> str:
        """`text` with every span of it masked. Spans do not overlap."""
        parts, at = [], 0
        for span in sorted(spans):
            given = text[span.start : span.end]
            lead, trail = len(given) - len(given.lstrip()), len(given) - len(given.rstrip())
            if not given.strip():
                continue
            mask = self.find(span.type, given.strip())
            parts += [text[at : span.start + lead], mask]
            at = span.end - trail
        return "".join((*parts, text[at:]))

    def find(self, type_: PiiType, given: str) -> str:
        """The mask of `given`: that of an earlier spelling, or of a fuller one (Ann for Ann Lee), if there is one."""
        form = fold(type_, given)
        mask = self._by_form.get((type_, form))
        if mask is None and type_ is PiiType.NAME:
            mask = self._find_fuller(form)
            if mask is not None and len(form.split()) < len(self._fullest[mask]):
                self.forms[mask].add(given)
                return mask  # not for ever: somebody else may come who is called so, too
        if mask is None:
            number = self._count.get(type_, 0)
            self._count[type_] = number + 1
            mask = f"<{type_.value}_{name_number(number)}>"
        self._by_form[type_, form] = mask
        self.forms.setdefault(mask, set()).add(given)
        if type_ is PiiType.NAME:
            self._fullest[mask] = max(self._fullest.get(mask, frozenset()), frozenset(form.split()), key=len)
        return mask

    def _find_fuller(self, form: str) -> str | None:
        """The one name whose fullest spelling has all the words of this one, or whose words this one all has."""
        words = frozenset(form.split())
        fuller = [mask for mask, others in self._fullest.items() if words <= others or others <= words]
        return fuller[0] if len(fuller) == 1 else None


def fold(type_: PiiType, given: str) -> str:
    """What all spellings of one thing share: letters without accents and case, digits without what parts them."""
    if type_ in (PiiType.EMAIL, PiiType.URL, PiiType.ADDRESS):
        return given.casefold()
    plain = _without_accents(given).casefold()
    if type_ in (PiiType.CARD, PiiType.PHONE, PiiType.IBAN, PiiType.ID):
        return "".join(character for character in plain if character.isalnum())
    words = re.findall(r"\w+", plain.removesuffix("'s").removesuffix("’s"))
    return " ".join(words) or plain.strip()


def _without_accents(text: str) -> str:
    """Latin, Greek and Cyrillic letters without accents; in other scripts such a sign makes another letter."""
    found = ""
    for character in unicodedata.normalize("NFKC", text):
        parts = unicodedata.normalize("NFKD", character)
        is_ours = unicodedata.name(parts[0], "").startswith(("LATIN", "GREEK", "CYRILLIC"))
        found += parts[0] if is_ours else character
    return found


def name_number(number: int) -> str:
    """0 → A … 25 → Z, 26 → AA, as spreadsheets do."""
    letters = ""
    number += 1
    while number:
        number, place = divmod(number - 1, 26)
        letters = string.ascii_uppercase[place] + letters
    return letters
