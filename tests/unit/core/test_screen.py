"""Reading screens: by schema, by ARIA where no schema applies, and what is refused."""

import time

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.actions import Action, Tool
from pilotage_core.errors import InvalidScreenError
from pilotage_core.parsing import MAX_SCREEN_CHARS, MAX_SCREEN_DEPTH, MAX_SCREEN_TAGS
from pilotage_core.proposal import find_fault
from pilotage_core.reading import MAX_CONTROLS, admit_screen, check_schemas, read_screen
from pilotage_core.screen import Control, ControlKind, ControlRule, FactRule, Screen, ScreenSchema

SCHEMA = ScreenSchema(
    name="order",
    applies="body[data-screen=order]",
    controls=(
        ControlRule("button.go", ControlKind.BUTTON),
        ControlRule("select.city", ControlKind.SELECT, label="@aria-label", pii="@data-pii"),
        ControlRule("input.text", ControlKind.INPUT, control_id="@name", label="@aria-label"),
        ControlRule("div.card", ControlKind.ROW, label="b", value="i"),
    ),
    facts=(FactRule("[data-fact]"), FactRule("tr.line", key="th", value="td")),
    announcements="[role=status] p",
    required_controls=("go",),
)
PAGE = """<body data-screen=order><h1> The
 order </h1><dl><dd data-fact=total>12 <b>EUR</b></dd></dl><table><tr class=line><th>Tax</th><td>2</td></tr></table>
<button class=go data-control-id=go>Go on</button>
<label>City<select class=city data-control-id=city aria-label=City data-pii=place required>
<option></option><option>Detroit</option><option selected>Boston</option></select></label>
<input class=text name=day aria-label=Day value=Monday disabled>
<div class=card data-control-id=row:1><b>First</b><i>7</i></div>
<div role=status><p>Saved.</p><p> </p></div></body>"""


def test_controls_facts_and_announcements_are_read_by_the_schema_in_document_order():
    screen = read_screen(PAGE, (SCHEMA,))
    assert (screen.name, screen.title, screen.unknown_controls) == ("order", "The order", 0)
    assert screen.controls == (
        Control("go", ControlKind.BUTTON, "Go on"),
        Control(
            "city",
            ControlKind.SELECT,
            "City",
            value="Boston",
            options=("Detroit", "Boston"),
            required=True,
            pii="place",
        ),
        Control("day", ControlKind.INPUT, "Day", value="Monday", enabled=False),
        Control("row:1", ControlKind.ROW, "First", value="7"),
    )
    assert screen.facts == (("total", "12 EUR"), ("Tax", "2"))
    assert screen.announcements == ("Saved.",)


@pytest.mark.parametrize(
    ("element", "control_id", "kind"),
    [
        ("<button id=x>Delete all</button>", "x", ControlKind.BUTTON),
        ("<a href=/away name=leave>Leave</a>", "leave", ControlKind.BUTTON),
        ("<div role=textbox data-control-id=note></div>", "note", ControlKind.INPUT),
        ("<input type=radio name=r>", "r", ControlKind.RADIO),
        ("<textarea></textarea>", "unknown:4", ControlKind.INPUT),
        ("<span onclick=go()>Go</span>", "unknown:4", ControlKind.BUTTON),
    ],
)
def test_what_no_rule_names_is_kept_flagged_and_counted(element, control_id, kind):
    screen = read_screen(PAGE.replace("</body>", f"{element}</body>"), (SCHEMA,))
    last = screen.controls[-1]
    assert (last.control_id, last.kind, last.known) == (control_id, kind, False)
    assert screen.unknown_controls == 1
    assert len(screen.controls) == 5


def test_a_hidden_input_is_no_control():
    assert read_screen(PAGE.replace("</body>", "<input type=hidden name=t></body>"), (SCHEMA,)).unknown_controls == 0


@pytest.mark.parametrize(
    "wrapper",
    ["<div hidden>{}</div>", "<div aria-hidden=true>{}</div>", '<div style="color:red;display:none"><p>{}</p></div>'],
)
def test_a_control_inside_something_hidden_is_not_visible(wrapper):
    button = "<button class=go data-control-id=go>Go on</button>"
    screen = read_screen(PAGE.replace(button, wrapper.format(button)), (SCHEMA,))
    assert not screen.controls[0].visible
    assert screen.controls[0].enabled


@pytest.mark.parametrize("wrapper", ["<fieldset disabled>{}</fieldset>", "<div aria-disabled=true>{}</div>"])
def test_a_control_inside_something_disabled_is_disabled(wrapper):
    button = "<button class=go data-control-id=go>Go on</button>"
    assert not read_screen(PAGE.replace(button, wrapper.format(button)), (SCHEMA,)).controls[0].enabled


def test_where_no_schema_applies_roles_and_names_say_what_a_control_is():
    page = """<h1>Any page</h1><div role=button id=b aria-label=Send></div><select name=s><option>1</select>
    <div role=combobox id=c aria-label=Find></div><input id=i placeholder=Name><button id=nameless></button>
    <div role=alert>Late!</div>"""
    screen = read_screen(page, (SCHEMA,))
    assert (screen.name, screen.title, screen.announcements) == ("aria", "Any page", ("Late!",))
    assert [(c.control_id, c.kind, c.label, c.known) for c in screen.controls] == [
        ("b", ControlKind.BUTTON, "Send", True),
        ("s", ControlKind.SELECT, "s", True),
        ("c", ControlKind.COMBO_BOX, "Find", True),
        ("i", ControlKind.INPUT, "Name", True),
        ("nameless", ControlKind.BUTTON, "", False),
    ]
    assert screen.unknown_controls == 1


@pytest.mark.parametrize(
    ("html", "limit"),
    [
        ("x" * (10 * 1024 * 1024), MAX_SCREEN_CHARS),
        ("<div>" * (MAX_SCREEN_TAGS + 1), MAX_SCREEN_TAGS),
        ("<div>" * (MAX_SCREEN_DEPTH + 10) + "</div>" * (MAX_SCREEN_DEPTH + 10), MAX_SCREEN_DEPTH),
        ("<div><!-- </div> -->" * (MAX_SCREEN_DEPTH + 10), MAX_SCREEN_DEPTH),
    ],
)
def test_a_bomb_is_refused_naming_the_limit(html, limit):
    screen = read_screen(html, (SCHEMA,))
    assert str(limit) in screen.fault
    assert (screen.controls, screen.recognised) == ((), False)


def test_a_screen_without_a_required_control_names_screen_and_control():
    screen = read_screen("<body data-screen=order><button data-control-id=other>Go</button></body>", (SCHEMA,))
    assert "screen order" in screen.fault
    assert "'go'" in screen.fault
    assert [c.control_id for c in screen.controls] == ["other"]


def test_an_id_that_two_elements_have_makes_neither_of_them_known():
    again = "<button class=go data-control-id=go>Again</button></body>"
    screen = read_screen(PAGE.replace("</body>", again), (SCHEMA,))
    assert [c.known for c in screen.controls if c.control_id == "go"] == [False, False]
    assert screen.unknown_controls == 2


SHADOW = (
    "<x-button><template shadowrootmode=open><button id=b><slot></slot><slot name=icon></slot></button></template>"
    "Send <b>now</b><i slot=icon>!</i></x-button>"
)


@pytest.mark.parametrize(
    ("html", "label", "value"),
    [
        ("<label id=l for=i>Order</label><input id=i value=7>", "Order", "7"),  # an id made it count twice
        ("<label id=l>Order <input id=i></label>", "Order", ""),
        (SHADOW, "Send now!", ""),
        ("<ul role=tree><li role=treeitem id=t>In<ul role=group><li role=treeitem>x</ul></ul>", "In", ""),
        ("<img role=button alt=Delete id=d>", "Delete", ""),
        ("<button role=heading id=h>Go</button>", "Go", ""),
        ("<button role=combobox id=c aria-label=City>Wien</button>", "City", "Wien"),
        ("<input type=number id=n aria-label=n value=abc>", "n", ""),
        ("<input type=number id=n aria-label=n value=-1.5e3>", "n", "-1.5e3"),
        ("<input type=date id=n aria-label=n value=tomorrow>", "n", ""),
        ("<input type=date id=n aria-label=n value=2026-11-29>", "n", "2026-11-29"),
        ("<input type=range id=n aria-label=n min=0 max=10>", "n", "5"),
        ("<input type=color id=n aria-label=n>", "n", "#000000"),
        ("<input type=checkbox role=switch id=n aria-label=n checked aria-checked=false>", "n", "checked"),
        ("<button id=b><span style='display:block'>a</span><span>b</span></button>", "a b", ""),
        ("<button id=b><q>so</q></button>", "\u201cso\u201d", ""),
    ],
)
def test_names_and_values_are_those_that_chromium_tells(html, label, value):
    """Found by tests/contract/test_screens_in_chromium.py."""
    control = read_screen(f"<body>{html}</body>", ()).controls[0]
    assert (control.label, control.value) == (label, value)


def test_what_two_selectors_of_a_list_match_is_read_once():
    schema = ScreenSchema("s", "body", controls=(ControlRule("button,.go,[id]", ControlKind.BUTTON, control_id="@id"),))
    [control] = read_screen("<body><button class=go id=b>Go</button></body>", (schema,)).controls
    assert control.known


def test_a_typed_screen_is_recognised_by_the_schema_of_its_name_and_by_nothing_it_says_itself():
    typed = Screen("order", controls=(Control("go", ControlKind.BUTTON),))
    assert admit_screen(typed, (SCHEMA,)) == msgspec.structs.replace(typed, recognised=True)
    assert "'go'" in admit_screen(Screen("order"), (SCHEMA,)).fault
    claimed = Screen("own", controls=typed.controls, recognised=True)
    assert not admit_screen(claimed, (SCHEMA,)).recognised
    twice = admit_screen(Screen("order", controls=typed.controls * 2), (SCHEMA,))
    assert [c.known for c in twice.controls] == [False, False]
    assert str(MAX_CONTROLS) in admit_screen(Screen("order", controls=typed.controls * 8001), (SCHEMA,)).fault


def test_a_selector_that_takes_seconds_is_refused():
    with pytest.raises(InvalidScreenError, match=r"schema s: .*more than one :has"):
        check_schemas((ScreenSchema("s", "*:has(*:has(b))"),))
    check_schemas((ScreenSchema("s", "body:has(b)"),))


def test_a_schema_with_a_selector_that_is_none_says_where():
    schema = ScreenSchema(name="odd", applies="body", controls=(ControlRule("button[", ControlKind.BUTTON),))
    assert "schema odd: controls[0]" in read_screen(PAGE, (schema,)).fault


@given(st.text(max_size=300) | st.lists(st.sampled_from(list("<>/='\" abdivutonselc"))).map("".join))
def test_any_text_is_read_or_refused(html):
    screen = read_screen(html, (ScreenSchema(name="any", applies="body", controls=SCHEMA.controls),))
    assert screen.name == "any"


# --- what an attacker of the reader found -----------------------------------------------------------------------------
FRAME = '<iframe srcdoc="{}"></iframe>'
BY_ID = ScreenSchema("s", "body", controls=(ControlRule("button.ok", ControlKind.BUTTON, control_id="@id"),))
BY_DATA = ScreenSchema("s", "body", controls=(ControlRule("[data-control-id]", ControlKind.BUTTON),))
SLOW_SECONDS = 2.0


def read_control(html: str, control_id: str, schema: ScreenSchema = BY_DATA) -> Control | None:
    return read_screen(f"<body>{html}</body>", (schema,)).control(control_id)


def test_a_page_with_more_frames_than_are_read_has_a_fault():
    twin = FRAME.format("<button data-control-id=pay>Delete</button>")
    html = "<body><button data-control-id=pay>Pay</button>" + FRAME.format("") * 63 + twin + "</body>"
    screen = read_screen(html, (BY_DATA,))
    assert "more than 64 frames" in screen.fault
    assert screen.controls == ()


@pytest.mark.parametrize(
    ("twin", "schema"),
    [
        ("<button id=pay data-control-id=other>Delete</button>", BY_ID),
        ("<input type=hidden id=pay>", BY_ID),
        ("<div id=pay><button>Delete</button></div>", BY_ID),
        ("<p id=pay>text</p>", BY_ID),
        ("<span hidden><b data-control-id=pay></b></span>", BY_DATA),
        (FRAME.format("<p data-control-id=pay>"), BY_DATA),
    ],
)
def test_a_second_element_of_an_id_leaves_no_control_known_whatever_it_is(twin, schema):
    button = "<button class=ok id=pay data-control-id=pay>Pay</button>"
    assert read_control(button, "pay", schema).known
    found = read_screen(f"<body>{twin}{button}</body>", (schema,))
    assert not any(control.known for control in found.controls if control.control_id == "pay")


@pytest.mark.parametrize(
    "html",
    [
        "<style>" + "@" * 60_000 + "</style>",
        "<style>" + "/*" * 60_000 + "</style>",
        "<style>" + "@media screen{" * 8_000 + "</style>",
        "<div><template shadowrootmode=open>" + "<slot></slot>" * 3_900 + "</template>" + "<b>x</b>" * 3_900 + "</div>",
        FRAME.format("&lt;p>" * 30_000),
        FRAME.format("<div>" * 3_000),
        "<div><template shadowrootmode=open>" + "<div>" * 3_000 + "</template></div>",
    ],
    ids=["at", "comments", "media", "slots", "tags in a frame", "deep frame", "deep shadow"],
)
def test_no_page_takes_long_or_raises(html):
    started = time.process_time()
    read_screen(f"<body>{html}</body>", ())
    assert time.process_time() - started < SLOW_SECONDS


@pytest.mark.parametrize("html", [FRAME.format("<div>" * 3_000 + "<button>x"), FRAME.format("&lt;p>" * 30_000)])
def test_limits_hold_within_frames(html):
    assert read_screen(f"<body>{html}</body>", ()).fault


def test_what_a_shadow_tree_shows_is_not_what_stands_beside_it():
    host = "<x-l>Cancel<template shadowrootmode=open>Delete account</template></x-l>"
    control = read_control(f"<button data-control-id=b>{host}</button>", "b")
    assert (control.label, control.known) == ("", False)
    real = "<form><template shadowrootmode=open><button data-control-id=fake>Go</button></template>"
    assert read_control(f"{real}<button data-control-id=b>Go</button></form>", "fake") is None
    slotted = "<x-b><template shadowrootmode=open><div hidden><slot></slot></div></template>{}</x-b>"
    assert not read_control(slotted.format("<button data-control-id=b>Go</button>"), "b").visible


def test_a_style_sheet_for_print_and_a_hidden_fact_say_nothing():
    schema = ScreenSchema("s", "body", controls=BY_DATA.controls, facts=(FactRule("[data-fact]"),))
    style = "<style media=print>button{display:none}</style>"
    screen = read_screen(
        f"<body>{style}<button data-control-id=b>Go</button><i data-fact=a hidden>1</i><i data-fact=b>2</i></body>",
        (schema,),
    )
    assert screen.controls[0].visible
    assert screen.facts == (("b", "2"),)


@pytest.mark.parametrize(
    "html",
    [
        "<select data-control-id=b><option value=1>Savings<option value=2>Savings</select>",
        "<label><input type=radio name=n data-control-id=b>Same</label>"
        "<label><input type=radio name=n data-control-id=b>Same</label>",
    ],
)
def test_two_choices_of_one_label_leave_it_unknown_which_is_meant(html):
    kind = ControlKind.SELECT if "select" in html else ControlKind.RADIO
    schema = ScreenSchema("s", "body", controls=(ControlRule("[data-control-id]", kind),))
    assert not read_control(html, "b", schema).known
    assert read_control(html.replace("Same", "A", 1).replace("Savings", "A", 1), "b", schema).known


@pytest.mark.parametrize("ending", ["\n", "\r", "\t", "\x0b", "\x85", "\u2028", "\x7f"])
def test_a_field_of_one_line_takes_nothing_that_submits_or_leaves_it(ending):
    screen = read_screen("<body><input id=i aria-label=i><textarea id=t aria-label=t></textarea></body>", ())
    for value in (f"5000{ending}", ending, f"{ending}5000", f"50{ending}00"):
        assert "takes one line" in find_fault(Action(Tool.FILL_INPUT, "i", value=value), screen)
    assert find_fault(Action(Tool.FILL_INPUT, "i", value="5000"), screen) == ""
    assert find_fault(Action(Tool.FILL_INPUT, "t", value="a\nb"), screen) == ""


def test_a_field_that_can_only_be_read_takes_nothing():
    screen = read_screen("<body><input id=i aria-label=i readonly></body>", ())
    assert "can only be read" in find_fault(Action(Tool.FILL_INPUT, "i", value="5"), screen)
