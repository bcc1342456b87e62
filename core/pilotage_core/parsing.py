"""HTML parsed under limits: characters, elements, depth, those of frames among them.

Out: a tree, or InvalidScreenError. Not here: what a tree says (page.py, reading.py).
"""

import re

from selectolax.lexbor import LexborHTMLParser

from pilotage_core.errors import InvalidScreenError

MAX_SCREEN_CHARS = 256 * 1024
MAX_SCREEN_TAGS = 8_000
MAX_SCREEN_DEPTH = 200
_DEEP = ">".join("*" * 25)
_DEEPER_THAN_LIMIT = ">".join("*" * (MAX_SCREEN_DEPTH + 1))
_TAG = re.compile(r"<[a-zA-Z]")


def parse(html: str) -> LexborHTMLParser:
    """The tree of `html`. Raises InvalidScreenError for more than the limits."""
    # Tags are counted before parsing: building a tree takes time quadratic in its depth.
    if len(html) > MAX_SCREEN_CHARS:
        raise InvalidScreenError(
            f"{len(html)} characters, the limit is {MAX_SCREEN_CHARS}", where="html", remedy="send less of the page"
        )
    if html.count("<") > MAX_SCREEN_TAGS and (tags := len(_TAG.findall(html))) > MAX_SCREEN_TAGS:
        raise InvalidScreenError(
            f"{tags} elements, the limit is {MAX_SCREEN_TAGS}", where="html", remedy="send less of the page"
        )
    tree = LexborHTMLParser(html, scripting=True)
    # The long selector is slow to compile, and hardly any page nests deep enough to need it.
    if tree.css_first(_DEEP) is not None and tree.css_first(_DEEPER_THAN_LIMIT) is not None:
        raise InvalidScreenError(
            f"nested deeper than {MAX_SCREEN_DEPTH} elements, which is the limit",
            where="html",
            remedy="flatten the page",
        )
    return tree


class FrameParser:
    """Parses documents of frames, under the limits of the page that they are in: a tag may be escaped there."""

    def __init__(self, html: str) -> None:
        self._tags = len(_TAG.findall(html))

    def __call__(self, source: str) -> LexborHTMLParser:
        """The tree of `source`. Raises InvalidScreenError for more than the limits, all of a page counted."""
        self._tags += len(_TAG.findall(source))
        if self._tags > MAX_SCREEN_TAGS:
            raise InvalidScreenError(
                f"{self._tags} elements with those of frames, the limit is {MAX_SCREEN_TAGS}",
                where="html",
                remedy="send less of the page",
            )
        return parse(source)
