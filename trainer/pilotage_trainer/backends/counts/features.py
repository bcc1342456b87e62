"""What a count model sees of a situation: the steps that are possible, and traits. Not here: counting (counts.py)."""

import zlib

from pilotage_core.actions import Tool
from pilotage_core.screen import ControlKind
from pilotage_trainer.backends.situation import CUSTOMER, WORDS, Situation
from pilotage_trainer.sessions.steps import SAY, TYPE

WORD_BUCKETS = 512


def list_candidates(situation: Situation) -> list[str]:
    """The steps that are possible on the screen shown, in its order; those only an operator takes among them."""
    steps = [TYPE] if situation.fields else []
    for control_id, kind in situation.controls.items():
        if kind == ControlKind.REPLY:
            steps.append(f"{Tool.SEND_TEXT_TO_CHAT} {control_id}")
        elif kind == ControlKind.PROCEDURE:
            steps.append(f"{Tool.OPEN_PROCEDURE} {control_id}")
        elif kind in (ControlKind.BUTTON, ControlKind.ROW):
            steps.append(f"{Tool.CLICK_CONTROL} {control_id}")
    return [*steps, SAY, Tool.CLOSE_CHAT.value, Tool.TRANSFER_CHAT.value]


def build_traits(situation: Situation) -> tuple[str, ...]:
    """The situation as a set of named traits, for the log-linear part of a policy. Order carries nothing."""
    s = situation
    h = ["", "", "", *s.history]
    changed = ",".join(s.changed)
    form = s.form
    traits = [
        "1",
        f"s={s.place}",
        f"p={s.procedure}",
        f"h1={h[-1]}",
        f"h2={h[-2]}>{h[-1]}",
        f"h3={h[-3]}>{h[-2]}>{h[-1]}",
        f"form={form}",
        f"h1form={h[-1]}&{form}",
        f"sh1={s.place}&{h[-1]}&{form}",
        f"changed={s.place}&{changed}",
        f"filled={s.place}&{','.join(s.filled)}",
        f"out={s.outcome}",
        f"outh={s.outcome}&{h[-1]}&{form}",
        f"clicks={min(s.clicks, 3)}",
        f"turns={min(len(s.history), 20) // 2}",
        f"failed={s.failed}",
        *(f"ann={a}" for a in s.announcements),
        *(f"case={k}={v}" for k, v in s.case.items()),
        *(f"done={step}" for step in s.done),
        *(f"done={s.place}&{step}" for step in s.done),
        *(f"has={s.place}&{name}" for name in s.filled),
    ]
    traits += [f"w={word}" for word in hash_words(s.heard)]
    if h[-1] == CUSTOMER:
        traits += [f"w2={h[-2]}&{word}" for word in hash_words(s.heard)]
    return tuple(dict.fromkeys(traits))


def hash_words(texts: list[str]) -> list[int]:
    """The distinct words of `texts`, each as one of WORD_BUCKETS numbers (crc32: the same on every machine)."""
    words = {word for text in texts for word in WORDS.findall(text.lower())}
    return sorted({zlib.crc32(word.encode()) % WORD_BUCKETS for word in words})
