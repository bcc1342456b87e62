"""What is heard in one turn of a customer: tokens and n-grams. Not here: what they mean (calls.py, spans.py)."""

import re
from itertools import pairwise
from typing import NamedTuple

from pilotage_core.actions import Action, Tool

TOKEN = re.compile(r"\w+(?:['’]\w+)*|[^\w\s]")
SHORT = 6
"""A turn of so many words at most is known whole."""
BEGINNING = 5
"""Letters that words of one family share: salon, salons."""
CAPITAL, SMALL, DIGIT = re.compile(r"[A-Z]+"), re.compile(r"[^\W\dA-Z_]+"), re.compile(r"\d")


class Token(NamedTuple):
    """One word or mark, lower case, where it stands in the text, and what it looks like (`Xx`, `dd`)."""

    word: str
    start: int
    end: int
    shape: str


def find_tokens(text: str) -> list[Token]:
    """The words and marks of `text`."""
    return [Token(m[0].lower(), m.start(), m.end(), find_shape(m[0])) for m in TOKEN.finditer(text)]


def find_shape(word: str) -> str:
    """Capitals, small letters and digits as such; digits one by one, as their number tells."""
    return DIGIT.sub("d", SMALL.sub("x", CAPITAL.sub("X", word)))


def find_stem(control_id: str) -> str:
    """A control's id without what it is about: `say:request:city` is `say:request`, `say:confirm` is itself."""
    return control_id.rpartition(":")[0] if control_id.count(":") > 1 else control_id


def find_kind(action: Action) -> str:
    """What is done, whatever it is about: a message by its template's stem, a click by its control, else the tool."""
    match action.tool:
        case Tool.SEND_TEXT_TO_CHAT:
            return f"{action.tool} {find_stem(action.control_id)}"
        case Tool.CLICK_CONTROL:
            return f"{action.tool} {action.control_id.partition(':')[0]}"
        case tool:
            return tool.value


def find_argument(control_id: str) -> str:
    """The rest of it; empty where there is no colon."""
    head, _, rest = control_id.rpartition(":")
    return rest if head else ""


def list_arguments(control_id: str) -> tuple[str, ...]:
    """What a control is about, one by one: a request for several has them all."""
    return tuple(name for name in dict.fromkeys(find_argument(control_id).split("+")) if name)


def list_ngrams(text: str, reply: str) -> list[str]:
    """Words, pairs and triples of a turn, what it answers, and both together."""
    words = [token.word for token in find_tokens(text)]
    padded = ["^", *words, "$"]
    stem = find_stem(reply)
    named = [f"r={reply}", f"rs={stem}", f"n={min(len(words), 12) // 3}"]
    named += [f"w={word}" for word in words]
    named += [f"ww={a} {b}" for a, b in pairwise(padded)]
    named += [f"www={a} {b} {c}" for a, b, c in zip(padded, padded[1:], padded[2:], strict=False)]
    named += [f"rw={stem}&{word}" for word in words]
    named += [f"begin={word[:BEGINNING]}" for word in words if len(word) > BEGINNING]
    named += [f"arw={reply}&{words[0]}"] if words else []
    named += [f"asked={name}" for name in list_arguments(reply)]
    named += [f"whole={stem}&{' '.join(words)}"] if len(words) <= SHORT else []
    return list(dict.fromkeys(named))
