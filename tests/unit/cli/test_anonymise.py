"""`pilotage anonymise`: from lines with names in them to lines without, and nothing where it leaks."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pilotage.main import app
from pilotage_core.pii import PiiType, Span
from pilotage_trainer.privacy.finding import Line, anonymise, build_find, find_known, find_leaks
from pilotage_trainer.privacy.learning import learn, vary
from pilotage_trainer.privacy.reading import read_texts
from pilotage_trainer.privacy.tagger import CrfTagger, load_tagger

CHAT = [
    {"id": 1, "session": "s1", "text": "Hi, my name is Maria Schneider and I live in Hamburg."},
    {"id": 2, "session": "s1", "text": "Maria here again, my card is 4111 1111 1111 1111"},
    {"id": 3, "session": "s2", "text": "Dear Maria Schneider, write to help@shop.example.com"},
    {"id": "4", "text": "What are the opening hours?"},
]


def write(path: Path, lines: list) -> Path:
    path.write_text("".join(json.dumps(line) + "\n" for line in lines))
    return path


def run(folder: Path, lines: list, *words: str) -> tuple[int, str, list, list]:
    source = write(folder / "in.jsonl", lines)
    out, spans = folder / "out.jsonl", folder / "spans.jsonl"
    done = CliRunner().invoke(app, ["anonymise", str(source), str(out), "--spans", str(spans), *words])
    read = [
        [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else [] for path in (out, spans)
    ]
    return done.exit_code, done.output, *read


def test_a_chat_is_masked_one_person_one_mask_within_its_session(tmp_path):
    code, said, out, spans = run(tmp_path, CHAT)
    assert code == 0, said
    assert [line["id"] for line in out] == [1, 2, 3, "4"]
    assert out[0]["text"] == "Hi, my name is <NAME_A> and I live in <PLACE_A>."
    assert out[1]["text"] == "<NAME_A> here again, my card is <CARD_A>"
    assert out[2]["text"].endswith("write to <EMAIL_A>")
    assert "Maria" not in out[2]["text"]
    assert out[3]["text"] == CHAT[3]["text"]
    found = {(line["id"], line["type"], CHAT[line["id"] - 1]["text"][line["start"] : line["end"]]) for line in spans}
    assert {(1, "NAME", "Maria Schneider"), (1, "PLACE", "Hamburg"), (2, "CARD", "4111 1111 1111 1111")} <= found
    assert "4 texts, " in said


def test_the_report_is_json_too_and_rules_alone_need_no_model(tmp_path):
    code, said, out, _ = run(tmp_path, CHAT, "--rules-alone", "--json")
    assert code == 0
    assert json.loads(said) == {"texts": 4, "spans": {"CARD": 1, "EMAIL": 1}, "leaks": []}
    assert out[0]["text"] == CHAT[0]["text"]


def test_mask_like_text_of_a_customer_names_nobodys_card(tmp_path):
    lines = [{"id": 1, "text": "my card is 4111 1111 1111 1111, no, <CARD_A>"}]
    _, _, out, _ = run(tmp_path, lines, "--rules-alone")
    assert out[0]["text"] == "my card is <CARD_A>, no, <MASK_A>"


def test_what_the_tagger_finds_once_is_masked_throughout_its_session(tmp_path, monkeypatch):
    class Blind:
        """Finds a name in the first text alone."""

        def find(self, text: str) -> list[Span]:
            return [Span(0, 9, PiiType.NAME)] if text.startswith("Anneliese") else []

    monkeypatch.setattr("pilotage.anonymise.load_tagger", lambda: Blind())
    lines = [
        {"id": 1, "session": 1, "text": "so said ANNELIESE, too; Anneliesens Haus"},
        {"id": 2, "session": 1, "text": "Anneliese"},
        {"id": 3, "session": 2, "text": "so said Anneliese, too"},
    ]
    code, _, out, spans = run(tmp_path, lines)
    assert code == 0
    assert [line["text"] for line in out] == [
        "so said <NAME_A>, too; Anneliesens Haus",
        "<NAME_A>",
        "so said Anneliese, too",  # another session knows nothing of the first
    ]
    assert [(line["id"], line["start"], line["end"]) for line in spans] == [(1, 8, 17), (2, 0, 9)]


def test_what_a_mask_uncovers_is_masked_too(tmp_path):
    _, _, out, _ = run(tmp_path, [{"id": 1, "text": "my number is 0151-23456789 thanks"}], "--rules-alone")
    assert not any(character.isdigit() for character in out[0]["text"])


def test_where_something_still_stands_nothing_is_written(tmp_path, monkeypatch):
    monkeypatch.setattr("pilotage_trainer.privacy.finding.complete", lambda text, spans, known: list(spans)[:1])
    lines = [{"id": 7, "text": "a@b.example.com or c@d.example.com"}]
    code, said, out, spans = run(tmp_path, lines, "--rules-alone")
    assert (code, out, spans) == (3, [], [])
    assert "leak in 7: EMAIL still stands" in said
    assert "c@d" not in said
    assert [path.name for path in tmp_path.iterdir()] == ["in.jsonl"]


def test_a_word_that_anybody_uses_is_looked_for_nowhere_else():
    known = find_known([("Will Smith", PiiType.NAME), ("Al", PiiType.NAME), ("www.shop.example", PiiType.URL)])
    assert "smith" in known
    assert "will smith" in known
    assert not {"will", "al", "www", "shop", "example"} & known.keys()
    assert [text for _, text in [("", "will you come")] if list(find_leaks(known, [("1", text)]))] == []
    assert list(find_leaks(known, [("1", "to SMITH")])) == [("1", "NAME")]


def test_real_chats_are_written_whole_sessions_and_all(tmp_path):
    """Public chats, taggers' mistakes and all: nothing leaks, so that all of it is written."""
    data = Path(__file__).parents[4] / "shared/data/pii/multidogo_finance.dev.tsv.gz"
    if not data.exists():
        pytest.skip("no MultiDoGO beside the checkout")
    lines = [{"id": text.id, "session": text.group, "text": text.text} for text in read_texts(data)[:600]]
    code, said, out, _ = run(tmp_path, lines)
    assert code == 0, said
    assert len(out) == 600


def test_an_id_that_is_somebodys_mail_address_is_refused(tmp_path):
    for line in ({"id": "john@example.com", "text": "hi"}, {"id": 1, "session": "4111 1111 1111 1111", "text": "hi"}):
        code, said, out, _ = run(tmp_path, [line], "--rules-alone")
        assert (code, out) == (2, [])
        assert "in.jsonl:1" in said
        assert "personal itself" in said


def test_no_file_is_written_over_another_that_is_read_or_written(tmp_path):
    source = write(tmp_path / "a.jsonl.part", CHAT)
    out = tmp_path / "a.jsonl"
    assert CliRunner().invoke(app, ["anonymise", str(source), str(out), "--rules-alone"]).exit_code == 0
    assert len(source.read_text().splitlines()) == len(out.read_text().splitlines()) == len(CHAT)
    for words in ((str(source), str(source)), (str(source), str(out), "--spans", str(out))):
        done = CliRunner().invoke(app, ["anonymise", *words])
        assert done.exit_code == 2
        assert "two of the files are one" in done.output


def test_a_mark_of_byte_order_is_no_mistake(tmp_path):
    (tmp_path / "in.jsonl").write_bytes(b"\xef\xbb\xbf" + b'{"id": 1, "text": "hi"}\r\n')
    done = CliRunner().invoke(app, ["anonymise", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")])
    assert done.exit_code == 0


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ('{"id": 1}\n', "in.jsonl:1"),
        ('{"id": 1, "text": "a"}\n{"id": 2, "text": 3}\n', "in.jsonl:2"),
        ("nonsense\n", "in.jsonl:1"),
    ],
)
def test_a_bad_line_is_named_and_nothing_is_written(tmp_path, text, said):
    (tmp_path / "in.jsonl").write_text(text)
    done = CliRunner().invoke(app, ["anonymise", str(tmp_path / "in.jsonl"), str(tmp_path / "out.jsonl")])
    assert done.exit_code == 2
    assert said in done.output
    assert sorted(path.name for path in tmp_path.iterdir()) == ["in.jsonl"]


def test_files_that_cannot_be_are_refused(tmp_path):
    source = write(tmp_path / "in.jsonl", CHAT)
    for words, said in (
        ((str(tmp_path / "none"), "out"), "there is no such file"),
        ((str(source), str(tmp_path / "nowhere" / "out")), "cannot be written"),
        ((str(source), str(tmp_path / "out"), "--model", str(source)), "is no model of a tagger"),
    ):
        done = CliRunner().invoke(app, ["anonymise", *words])
        assert done.exit_code == 2
        assert said in done.output


ANNOTATED = [
    {
        "id": n,
        "text": f"my name is {name} and I am fine",
        "spans": [{"start": 11, "end": 11 + len(name), "type": "NAME"}],
    }
    for n, name in enumerate(["Ann Lee", "Bob", "Chris Day"] * 5)
]


def test_a_tagger_is_trained_on_annotated_texts_and_the_same_again_is_the_same(tmp_path):
    data = write(tmp_path / "data.jsonl", ANNOTATED)
    made = []
    for name in ("one.crf", "two.crf"):
        command = ["anonymise", "train", str(data), "--out", str(tmp_path / name), "--copies", "1"]
        done = CliRunner().invoke(app, command)
        assert done.exit_code == 0, done.output
        made.append((tmp_path / name).read_bytes())
    assert made[0] == made[1]
    text = "my name is Dora Holm and I am late"
    assert [text[s.start : s.end] for s in CrfTagger(tmp_path / "one.crf").find(text)] == ["Dora Holm"]


def test_formats_are_told_apart_and_a_file_that_is_in_none_is_refused(tmp_path):
    presidio = tmp_path / "p.json"
    span = {"entity_type": "PERSON", "entity_value": "Ann", "start_position": 5, "end_position": 8}
    presidio.write_text(json.dumps([{"full_text": "I am Ann", "spans": [span], "template_id": 3}]))
    (text,) = read_texts(presidio)
    assert (text.spans, text.group) == ((Span(5, 8, PiiType.NAME),), "3")
    tsv = tmp_path / "m.tsv"
    head = "conversationId\tturnNumber\tutteranceId\tutterance\tslot-labels\tintent\n"
    tsv.write_text(head + "c\t0\tu\tram lee ssn 2567\tname name O ssn\tx\n")
    (text,) = read_texts(tsv)
    assert text.spans == (Span(0, 7, PiiType.NAME), Span(12, 16, PiiType.ID))
    bad = tmp_path / "b.jsonl"
    bad.write_text('{"id": 1, "text": "a", "spans": [{"start": 0}]}\n')
    done = CliRunner().invoke(app, ["anonymise", "train", str(bad), "--out", str(tmp_path / "m.crf")])
    assert done.exit_code == 2
    assert "is in no format that is known" in done.output


def test_what_is_made_up_for_learning_keeps_its_spans(tmp_path):
    import random

    texts = read_texts(write(tmp_path / "data.jsonl", ANNOTATED))
    for text in vary(texts, 2, random.Random(1)):
        assert all(0 <= span.start < span.end <= len(text.text) for span in text.spans)
        if "my name is" in text.text and text.text.endswith("fine"):
            (span,) = text.spans
            assert text.text.lower() == f"my name is {text.text[span.start : span.end]} and i am fine".lower()


def test_the_tagger_that_comes_with_it_keeps_its_promise_on_sentences_nobody_trained_on():
    """A few of our own, in no set: most of what is personal, hardly anything else. The figures are bench/pii.py's."""
    find = build_find(load_tagger())
    names = "Good morning, this is Katarzyna Wiśniewska from Gdansk, my husband Tomasz called you yesterday."
    found = {names[span.start : span.end] for span in find(names)}
    assert {"Katarzyna Wiśniewska", "Tomasz"} <= found
    plain = "I would like to change my order and get the money back, how long does that take?"
    assert find(plain) == []
    written: list = []
    report = anonymise([Line(1, names)], find, written.append, lambda _: None)
    assert report.leaks == []
    assert "Tomasz" not in written[0].text


def test_learning_needs_a_span(tmp_path):
    data = write(tmp_path / "d.jsonl", [{"id": 1, "text": "nothing here", "spans": []}])
    done = CliRunner().invoke(app, ["anonymise", "train", str(data), "--out", str(tmp_path / "m")])
    assert done.exit_code == 2
    assert "no span" in done.output
    assert callable(learn)
