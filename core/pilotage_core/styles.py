"""What inline styles and `<style>` elements say of showing and hiding. Text in, declarations out; linear time.

Not here: which elements a selector means (page.py).
"""

import re
from collections.abc import Iterator
from functools import lru_cache
from typing import NamedTuple

_DISPLAYS = re.compile(
    r"none|block|inline|flex|grid|contents|table|list-item|inherit|initial|unset|revert|flow-root|(?:inline|table)-[a-z-]+"
)


_MARK, _BRACE = re.compile(r"[{};]"), re.compile(r"[{}]")

_FOR_SCREENS = re.compile(r"@media\s+(?:screen|all)", re.IGNORECASE)

_VISIBILITIES = frozenset({"hidden", "visible", "collapse", "inherit", "initial", "unset"})


class Styled(NamedTuple):
    """Display and visibility that a declaration sets, each with whether it is important; "" where it sets none."""

    display: tuple[str, bool] = ("", False)
    visibility: tuple[str, bool] = ("", False)


@lru_cache(maxsize=4096)
def read_style(text: str) -> Styled:
    """What an inline style, or the body of a rule, says: the last valid declaration wins, an important one beats it."""
    text = _without_comments(text)
    text = re.sub(r"\"[^\"]*\"|'[^']*'|\([^()]*\)", "", text)
    found = {"display": ("", False), "visibility": ("", False)}
    for declaration in text.split(";"):
        name, _, value = declaration.partition(":")
        name, value = name.strip().lower(), value.strip().lower()
        important = value.endswith("!important")
        value = value.removesuffix("!important").strip()
        if (name, value) == ("content-visibility", "hidden"):
            name, value = "display", "none"
        valid = _DISPLAYS.fullmatch(value) if name == "display" else value in _VISIBILITIES
        if name in found and valid and (important or not found[name][1]):
            found[name] = (value, important)
    return Styled(found["display"], found["visibility"])


@lru_cache(maxsize=256)
def read_style_sheet(text: str) -> tuple[tuple[str, Styled], ...]:
    """The rules of a `<style>` that show or hide, weakest first. Media other than screen are left out. Linear time."""
    rules = []
    for order, (selectors, body) in enumerate(_split_rules(_without_comments(text))):
        if "display" not in body and "visibility" not in body:
            continue
        styled = read_style(body)
        for selector in map(str.strip, selectors.split(",")):
            if selector and (styled.display[0] or styled.visibility[0]) and ":" not in selector.replace(":not(", ""):
                weight = (selector.count("#"), len(re.findall(r"[.\[]", selector)), order)
                rules.append((weight, selector, styled))
    return tuple((selector, styled) for _, selector, styled in sorted(rules, key=lambda rule: rule[0]))


def _without_comments(text: str) -> str:
    first, *others = text.split("/*")
    return first + "".join(other.partition("*/")[2] for other in others)


def _split_rules(text: str) -> Iterator[tuple[str, str]]:
    """Selectors and body of each rule, those for screens among them; other @-rules are passed over."""
    at = 0
    while found := _MARK.search(text, at):
        before, at = text[at : found.start()].strip(), found.end()
        if found[0] != "{" or _FOR_SCREENS.fullmatch(before):
            continue  # a statement, the end of a block, or a block of rules that count
        if before.startswith("@"):
            at = _find_end(text, at) + 1
            continue
        brace = _BRACE.search(text, at)
        if brace is not None and brace[0] == "{":
            continue  # rules within a rule: each is read by itself
        end = brace.start() if brace is not None else len(text)
        yield before, text[at:end]
        at = end + 1


def _find_end(text: str, at: int) -> int:
    """Where the block that is open at `at` ends: its brace, or the end of `text`."""
    depth = 1
    for brace in _BRACE.finditer(text, at):
        depth += 1 if brace[0] == "{" else -1
        if depth == 0:
            return brace.start()
    return len(text)


def stronger(before: tuple[str, bool], after: tuple[str, bool]) -> tuple[str, bool]:
    """Which of two declarations counts: the later one, unless only the earlier is important."""
    return after if after[0] and (after[1] or not before[1]) else before
