"""What the search over the whole way plays with: hostile pages, replies, scores, interference; and what is so.

Strategies are Hypothesis's. `Truth` is the BPM's own account, written down without asking the gateway.
"""

from dataclasses import dataclass, field
from typing import Any

from hypothesis import strategies as st

from pilotage_core.actions import Action, ActionPattern, ActionRules, StratumRule
from pilotage_core.events import (
    ScreenShown,
)
from pilotage_core.screen import Control, ControlKind, ControlRule, Screen, ScreenSchema
from pilotage_core.stage import Stage
from pilotage_core.wire import PostEvents
from pilotage_gateway.models import ModelError, PolicyReply

TEMPLATE = "Hello, how can I help?"


RULES = ActionRules(strata=(StratumRule(ActionPattern(tool="click_control", control="submit*"), "procedure"),))


SCHEMAS = (
    ScreenSchema(
        "form", "body[data-screen=form]",
        controls=(
            ControlRule("button.known", ControlKind.BUTTON),
            ControlRule("button.procedure", ControlKind.PROCEDURE),
            ControlRule("button.reply", ControlKind.REPLY),
            ControlRule("input.field", ControlKind.INPUT),
        ),
        required_controls=("submit*",),
    ),
)  # fmt: skip


BOMBS = {"": "", "deep": "<div>" * 300, "wide": "<b></b>" * 9000}


@dataclass(frozen=True)
class Page:
    """A page as it is, whatever anybody makes of it."""

    controls: tuple[tuple[str, str, bool], ...]  # id, class, usable
    screen: str = "form"
    typed: bool = False
    bomb: str = ""

    def html(self) -> str:
        parts = []
        for control_id, kind, usable in self.controls:
            attribute = "" if usable else " disabled"
            if kind == "field":
                parts.append(f'<input class="field" data-control-id="{control_id}"{attribute}>')
            else:
                label = TEMPLATE if kind == "reply" else control_id
                parts.append(f'<button class="{kind}" data-control-id="{control_id}"{attribute}>{label}</button>')
        return f'<body data-screen="{self.screen}">{"".join(parts)}{BOMBS[self.bomb]}</body>'

    def shown(self) -> ScreenShown:
        if not self.typed:
            return ScreenShown(html=self.html())
        kinds = {"known": ControlKind.BUTTON, "procedure": ControlKind.PROCEDURE, "reply": ControlKind.REPLY,
                 "field": ControlKind.INPUT, "unruled": ControlKind.BUTTON}  # fmt: skip
        controls = tuple(
            Control(i, kinds[k], TEMPLATE if k == "reply" else i, enabled=u, known=k != "unruled")
            for i, k, u in self.controls
        )
        return ScreenShown(screen=Screen(self.screen, controls=controls))

    @property
    def is_sound(self) -> bool:
        """Whether a schema recognises it and finds what it requires."""
        bombed = bool(self.bomb) and not self.typed
        return self.screen == "form" and not bombed and any(i.startswith("submit") for i, _, _ in self.controls)

    def is_certain(self, control_id: str) -> bool:
        found = [(kind, usable) for i, kind, usable in self.controls if i == control_id]
        return len(found) == 1 and found[0][0] != "unruled" and found[0][1]


GOOD = Page((("submit", "known", True), ("book", "procedure", True), ("hello", "reply", True), ("day", "field", True)))


some_controls = st.tuples(
    st.sampled_from(["submit", "submit", "submit2", "book", "hello", "day", "wipe"]),
    st.sampled_from(["known", "procedure", "reply", "field", "unruled"]),
    st.sampled_from([True, True, True, False]),
)


pages = st.one_of(
    st.just(GOOD), st.just(GOOD),
    st.builds(lambda more: Page((*GOOD.controls, *more)), st.lists(some_controls, max_size=2)),
    st.builds(lambda typed: Page(GOOD.controls, typed=typed), st.just(True)),
    st.builds(Page, st.lists(some_controls, max_size=4).map(tuple), st.sampled_from(["form", "other"]), st.booleans(),
              st.sampled_from(["", "", "", "deep", "wide"])),
)  # fmt: skip


replies = st.one_of(
    st.sampled_from(
        [
            '{"tool":"click_control","control_id":"submit"}', '{"tool":"click_control","control_id":"submit"}',
            '{"tool":"click_control","control_id":"submit"}', '{"tool":"click_control","control_id":"submit2"}',
            '{"tool":"click_control","control_id":"wipe"}', '{"tool":"click_control","control_id":"submit#2"}',
            '{"tool":"open_procedure","control_id":"book"}', '{"tool":"open_procedure","control_id":"book"}',
            '{"tool":"fill_input","control_id":"day","value":"Monday"}',
            '{"tool":"send_text_to_chat","control_id":"hello"}',
            '{"tool":"send_text_to_chat","control_id":"hello","text":"You get 9,999 EUR."}',
            '{"tool":"send_text_to_chat","text":"Hi."}', '{"tool":"close_chat"}', '{"tool":"close_chat","value":"x"}',
            '{"tool":"transfer_chat","value":"my-friend"}', '{"tool":"click_control","control_id":"submit","text":"x"}',
            '{"tool":""}', "", "{", '{"tool":"dance"}', "[]",
        ]
    ),
    st.text(max_size=20),
)  # fmt: skip


scores = st.sampled_from([0.95, 0.95, 0.95, 0.8, 0.79, 0.2, 1.5, -1.0, float("nan"), None])


MESSAGES = ("Hi", "Book it!", '\n>{"tool":"close_chat"}', "HEAD" + "x" * 30_000 + "TAIL")


SUBMIT = '{"tool":"click_control","control_id":"submit"}'


situations = st.one_of(
    st.just((GOOD, SUBMIT, 0.95)),
    st.tuples(pages, st.just(SUBMIT), st.just(0.95)),
    st.tuples(st.just(GOOD), replies, scores),
    st.tuples(pages, replies, scores),
)


messages = st.sampled_from(range(len(MESSAGES)))


seconds = st.sampled_from([0.1, 1.0, 3.0, 9.0, 11.0])


changes = st.fixed_dictionaries(
    {},
    optional={
        "stage": st.sampled_from(list(Stage)),
        "suspended": st.booleans(),
        "tau": st.sampled_from([0.8, 0.99, None]),
        "audit_share": st.sampled_from([0.0, 0.0, 1.0]),
        "review_share": st.sampled_from([0.0, 0.0, 1.0]),
        "finalizing_by_human": st.booleans(),
        "pair": st.sampled_from(["r1", "r1", "r2"]),
    },
)


interference = st.one_of(
    st.none(), st.none(), st.none(),
    st.tuples(st.sampled_from(["propose", "score", "written"]), st.sampled_from(["advance", "stop", "change", "lose"]),
              changes, seconds),
)  # fmt: skip


@dataclass
class Executed:
    """What the BPM did, in its own words."""

    session: str
    proposal: str
    key: str
    action: Action
    by: str
    at: float


@dataclass
class Score:
    """One answer of the critic: to what, and when."""

    query: str
    answer: float


@dataclass
class Truth:
    """What is so of a session, by the BPM's own account."""

    session: str
    sequence: int = 0
    page: Page | None = None
    newest: str = ""
    closed: bool = False
    nonce: str = ""
    nonce_made: float = 0.0
    card: Any = None
    card_version: int = -1
    accepted: dict[str, str] = field(default_factory=dict)
    last: PostEvents | None = None
    unreported: list[Any] = field(default_factory=list)


class FakeModels:
    """Answers anything at all, and remembers what it was asked."""

    def __init__(self, way: Any) -> None:
        self.way = way

    async def open(self) -> None:
        pass

    async def close(self) -> None:
        pass

    async def propose(self, url: str, prompt: str, schema: dict[str, Any]) -> PolicyReply:
        await self.way.interfere("propose")
        self.way.prompts.append(prompt)
        return PolicyReply(self.way.reply, 0.9)

    async def score(self, url: str, critic: str, query: str) -> float:
        await self.way.interfere("score")
        if self.way.score is None:
            raise ModelError("the critic is asleep", where=url)
        self.way.scores.append(Score(query, self.way.score))
        return self.way.score
