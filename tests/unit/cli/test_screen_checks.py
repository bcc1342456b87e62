"""Schemas against pages, and one release of pages against the next: each mistake is named, and nothing else is."""

import json
from pathlib import Path

import pytest
from typer.testing import CliRunner

from pilotage.main import app

SCHEMAS = [
    {
        "name": "case",
        "applies": "body[data-screen=case]",
        "controls": [{"selector": "button.action", "kind": "button"}, {"selector": "select", "kind": "select"}],
    }
]
PAGE = """<body data-screen=case><h1>Case</h1>
<button class=action data-control-id=send>Send</button>
<select data-control-id=reason aria-label=Reason><option>lost</option><option>stolen</option></select></body>"""


@pytest.fixture
def schemas(tmp_path) -> Path:
    path = tmp_path / "schemas.json"
    path.write_text(json.dumps(SCHEMAS))
    return path


def lint(tmp_path: Path, schemas: Path, *pages: str) -> tuple[int, str]:
    folder = tmp_path / "pages"
    folder.mkdir()
    for number, page in enumerate(pages):
        (folder / f"{number}.html").write_text(page)
    done = CliRunner().invoke(app, ["screen", "lint", str(folder), "--schemas", str(schemas)])
    return done.exit_code, done.output


def diff(tmp_path: Path, schemas: Path, before: str, after: str) -> tuple[int, str]:
    for name, page in (("before.html", before), ("after.html", after)):
        (tmp_path / name).write_text(page)
    files = [str(tmp_path / name) for name in ("before.html", "after.html")]
    done = CliRunner().invoke(app, ["screen", "diff", *files, "--schemas", str(schemas)])
    return done.exit_code, done.output


def test_a_page_that_is_read_whole_has_nothing_to_find(tmp_path, schemas):
    assert lint(tmp_path, schemas, PAGE) == (0, "nothing found\n")


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("class=action ", ""), "no rule names button 'Send'"),
        (("data-screen=case", ""), "no schema recognises it"),
        (
            ("</body>", "<button class=action data-control-id=send>Again</button></body>"),
            "2 controls are called 'send'",
        ),
        (("aria-label=Reason", ""), "select 'reason' has no label"),
    ],
)
def test_what_is_missed_on_a_page_is_named_with_what_follows(tmp_path, schemas, change, says):
    code, said = lint(tmp_path, schemas, PAGE.replace(*change))
    assert code == 1
    assert f"0.html: {says}" in said


def test_a_rule_that_matches_nothing_and_a_schema_that_knows_no_page_are_dead(tmp_path):
    path = tmp_path / "schemas.json"
    dead = {"selector": "button.gone", "kind": "button"}
    other = {"name": "other", "applies": "body.other", "controls": []}
    path.write_text(json.dumps([{**SCHEMAS[0], "controls": [*SCHEMAS[0]["controls"], dead]}, other]))
    code, said = lint(tmp_path, path, PAGE)
    assert code == 1
    assert said.splitlines() == [
        "schema case: button.gone matches nothing on any page",
        "schema other: recognises none of the pages (body.other)",
    ]


def test_two_schemas_that_take_one_page_are_told(tmp_path):
    path = tmp_path / "schemas.json"
    path.write_text(json.dumps([*SCHEMAS, {"name": "any", "applies": "body", "controls": []}]))
    assert "0.html: case and any both apply: the first is taken" in lint(tmp_path, path, PAGE)[1]


@pytest.mark.parametrize(
    ("change", "says"),
    [
        (("data-control-id=send", "data-control-id=send-2"), "button 'Send': its id send → send-2"),
        ((">Send<", ">Send now<"), "send: label 'Send' → 'Send now'"),
        (("<option>stolen</option>", "<option>broken</option>"), "reason: options: stolen gone, broken new"),
        (("</body>", "<button data-control-id=x>More</button></body>"), "new: button x 'More'  [no rule names it]"),
        (("data-screen=case", "data-screen=b"), "was read as case, is read as aria (by no schema)"),
        (("<button class=action data-control-id=send>Send</button>", ""), "gone: button send 'Send'"),
        (("<select ", "<select required "), "reason: required False → True"),
    ],
)
def test_what_another_release_changes_is_told_as_the_gate_sees_it(tmp_path, schemas, change, says):
    code, said = diff(tmp_path, schemas, PAGE, PAGE.replace(*change))
    assert code == 1
    assert f"before.html: {says}" in said.splitlines()


def test_the_same_again_differs_in_nothing_and_folders_tell_pages_that_came_and_went(tmp_path, schemas):
    assert diff(tmp_path, schemas, PAGE, PAGE.replace("\n", "\n\n")) == (0, "nothing found\n")
    for folder, names in (("old", ("a.html", "b.html")), ("new", ("b.html", "c.html"))):
        (tmp_path / folder).mkdir()
        for name in names:
            (tmp_path / folder / name).write_text(PAGE)
    done = CliRunner().invoke(app, ["screen", "diff", str(tmp_path / "old"), str(tmp_path / "new")])
    assert done.output.splitlines() == ["a.html: gone", "c.html: new"]


def test_what_cannot_be_read_is_named(tmp_path, schemas):
    (tmp_path / "empty").mkdir()
    (tmp_path / "latin.html").write_bytes(b"\xe9")
    for path, said in ((tmp_path / "empty", "holds no page"), (tmp_path / "latin.html", "is not UTF-8")):
        done = CliRunner().invoke(app, ["screen", "lint", str(path), "--schemas", str(schemas)])
        assert done.exit_code == 2
        assert said in done.output
