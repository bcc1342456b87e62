"""The page: it says what the figures say, escapes what customers wrote, and needs nothing but itself."""

import re
from html.parser import HTMLParser

import msgspec
import pytest
from stubs.run_records import (
    FILL,
    calibration,
    done,
    ended,
    gate,
    order,
    process_cluster,
    proposal,
    run,
    session,
    taken,
)

from pilotage.report.figures import build_figures
from pilotage.report.page import build_page, in_a_sentence
from pilotage.run import Ledger, Run
from pilotage_core.certificate import ScoreSource

VOID = {"meta", "line", "rect", "circle", "path", "polyline", "br"}


class Balance(HTMLParser):
    """Every opened element is closed, in order."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []

    def handle_starttag(self, tag, attrs):
        if tag not in VOID:
            self.open.append(tag)

    def handle_endtag(self, tag):
        if tag not in VOID:
            assert self.open.pop() == tag


def breached_run() -> Run:
    flips = (("Logging", 0, "begun"), ("Automation", 30, "earned"), ("Copilot", 60, "guardrail watch breached: x"))
    made = session("s1", 40, (proposal("p1", second=43),), done("p1"), taken(FILL, corrects="p1"))
    ledger = Ledger(orders=(order("p1", 44, strict=False),), ended=(ended("s1", 40.0),))
    gates = (gate("CorrectiveInterventionRate", least=1),)
    return run(process_cluster(*flips), (made,), ledger, gates, (calibration(),))


@pytest.mark.parametrize("made", [breached_run(), run(process_cluster(), ())], ids=["breached", "nothing happened"])
def test_the_page_is_whole_and_asks_for_nothing(made):
    page = build_page(made, build_figures(made))
    parser = Balance()
    parser.feed(page)
    assert parser.open == []
    assert not re.findall(r'(?:src|href)="(?!#)', page)
    assert "<script" not in page


@pytest.mark.parametrize(
    ("source", "cell"), [(ScoreSource.CRITIC, "critic"), (ScoreSource.CONFIDENCE, "confidence"), (None, "not told")]
)
def test_certificates_are_shown_with_what_their_score_is(source, cell):
    made = calibration()
    issued = tuple(msgspec.structs.replace(each, score_from=source) for each in made.certificates)
    told = run(process_cluster(), (), calibrations=(msgspec.structs.replace(made, certificates=issued),))
    page = build_page(told, build_figures(told))
    assert re.search(rf"<td[^>]*>{cell}</td></tr>", page)


def test_a_breach_can_be_clicked_and_shows_screen_chat_and_what_should_have_been_done():
    made = breached_run()
    page = build_page(made, build_figures(made))
    anchors = re.findall(r'href="#(breach-[^"]+)"', page)
    assert anchors
    assert all(f'id="{anchor}"' in page for anchor in anchors)
    assert "Is it &lt;b&gt;warm&lt;/b&gt;?" in page
    assert "<b>warm</b>" not in page
    assert "Weather &lt;now&gt;" in page
    assert "input:City = Bergen" in page


@pytest.mark.parametrize(
    ("flips", "unmet", "sentence"),
    [
        (
            (("Copilot", 10, "x"),),
            [{"condition": "Feedback", "have": "59", "need": "at least 500"}],
            "Information stayed in Copilot (Feedback 59, needs at least 500).",
        ),
        ((("Copilot", 10, "x"), ("Automation", 20, "x")), [], "Information earned Automation and kept it."),
    ],
)
def test_what_happened_in_one_sentence(flips, unmet, sentence):
    item = process_cluster(*flips)
    item["status"]["unmet"] = unmet
    assert in_a_sentence(build_figures(run(item, ())).process_clusters[0]) == sentence
