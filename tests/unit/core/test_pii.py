"""Rules with checksums, and masks: the same for the same thing within a session, meaningless in another."""

import re
import time
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.pii import MASK, Masks, PiiType, Span, find_by_rule, is_iban, is_luhn, merge, name_number


def find(text: str) -> list[tuple[str, str]]:
    return [(text[span.start : span.end], span.type.value) for span in find_by_rule(text)]


@pytest.mark.parametrize(
    ("text", "found"),
    [
        ("write to ann.lee+x@mail.example.com.", [("ann.lee+x@mail.example.com", "EMAIL")]),
        ("see https://shop.example/a?b=1, please", [("https://shop.example/a?b=1", "URL")]),
        ("on www.shop.example!", [("www.shop.example", "URL")]),
        ("card 4111 1111 1111 1111 expired", [("4111 1111 1111 1111", "CARD")]),
        ("card 4111-1111-1111-1111", [("4111-1111-1111-1111", "CARD")]),
        ("4111 1111 1111 1111 12/27 123", [("4111 1111 1111 1111", "CARD")]),
        ("4111\u00a01111\u20111111 1111, yes", [("4111\u00a01111\u20111111 1111", "CARD")]),
        ("\uff14\uff11\uff11\uff11 1111 1111 1111", [("\uff14\uff11\uff11\uff11 1111 1111 1111", "CARD")]),
        ("card 4111111111111111-", [("4111111111111111", "CARD")]),
        ("iban de89370400440532013000", [("de89370400440532013000", "IBAN")]),
        ("max@m\u00fcller.example", [("max@m\u00fcller.example", "EMAIL")]),
        (
            "\u0438\u0432\u0430\u043d@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444",
            [("\u0438\u0432\u0430\u043d@\u043f\u043e\u0447\u0442\u0430.\u0440\u0444", "EMAIL")],
        ),
        ("ssn123456789 tel5551234567", [("ssn123456789", "ID"), ("tel5551234567", "ID")]),
        ("my number: 5551234567-", [("5551234567", "ID")]),
        ("iban GB82 WEST 1234 5698 7654 32 please", [("GB82 WEST 1234 5698 7654 32", "IBAN")]),
        ("iban DE89370400440532013000", [("DE89370400440532013000", "IBAN")]),
        ("my ssn is 123-45-6789", [("123-45-6789", "ID")]),
        ("from 192.168.1.20 to ::", [("192.168.1.20", "ADDRESS")]),
        ("mac 00:1B:44:11:3A:B7", [("00:1B:44:11:3A:B7", "ADDRESS")]),
        ("ip fe80::1ff:fe23:4567:890a", [("fe80::1ff:fe23:4567:890a", "ADDRESS")]),
        ("call +44 20 7946 0958 today", [("+44 20 7946 0958", "PHONE")]),
        ("call (602) 272-9781", [("(602) 272-9781", "PHONE")]),
        ("born 1980-02-29 or 29/02/1980", [("1980-02-29", "DATE"), ("29/02/1980", "DATE")]),
        ("on March 3rd, 2024", [("March 3rd, 2024", "DATE")]),
        ("policy 123456789", [("123456789", "ID")]),
        ("I typed <CARD_A> here", [("<CARD_A>", "MASK")]),
        ("it costs 1,250.50 for 3 of them, in 2 days", []),
        ("room 12, floor 3, 15:30", []),
        ("", []),
    ],
)
def test_what_has_a_form_is_found_by_it(text, found):
    assert find(text) == found


def test_a_number_whose_check_digit_is_wrong_is_no_card_and_no_iban():
    assert is_luhn("4111111111111111")
    assert not is_luhn("4111111111111112")
    assert not is_luhn("0000000000000000")
    assert is_iban("GB82WEST12345698765432")
    assert not is_iban("GB82WEST12345698765431")
    assert ("4111 1111 1111 1112", "CARD") not in find("card 4111 1111 1111 1112")


@given(st.text(max_size=300))
def test_whatever_comes_spans_are_in_the_text_in_order_and_apart(text):
    spans = find_by_rule(text)
    assert all(0 <= span.start < span.end <= len(text) for span in spans)
    assert all(one.end <= other.start for one, other in pairwise(spans))


@pytest.mark.parametrize("unit", ["1-", "a@", "1 ", "A1", "1:", "www.", "0.", "<A"])
def test_a_long_text_made_to_be_slow_is_not(unit):
    began = time.perf_counter()
    find_by_rule(unit * 20_000)
    assert time.perf_counter() - began < 20


def test_a_taggers_span_keeps_what_no_rule_has():
    rules, tagged = [Span(5, 10, PiiType.EMAIL)], [Span(0, 7, PiiType.NAME), Span(8, 14, PiiType.NAME)]
    assert merge(rules, tagged) == [Span(0, 5, PiiType.NAME), Span(5, 10, PiiType.EMAIL), Span(10, 14, PiiType.NAME)]
    assert merge([], tagged) == tagged


def test_one_person_has_one_mask_however_it_is_spelt_and_another_one_another():
    masks = Masks()
    first = masks.find(PiiType.NAME, "Anna Müller")
    assert first == "<NAME_A>"
    assert masks.find(PiiType.NAME, "ANNA MULLER") == first
    assert masks.find(PiiType.NAME, "Anna") == first
    assert masks.find(PiiType.NAME, "Müller's") == first
    assert masks.find(PiiType.NAME, "Bob Müller") == "<NAME_B>"
    assert masks.find(PiiType.NAME, "Müller") == "<NAME_C>", "of two who are called so, neither"
    assert masks.find(PiiType.CARD, "4111 1111 1111 1111") == masks.find(PiiType.CARD, "4111-1111-1111-1111")
    assert masks.find(PiiType.PHONE, "+44 20 7946 0958") == masks.find(PiiType.PHONE, "+442079460958")
    assert masks.forms[first] == {"Anna Müller", "ANNA MULLER", "Anna", "Müller's"}


def test_a_first_name_of_two_people_is_neither_of_them():
    masks = Masks()
    masks.find(PiiType.NAME, "Ann Lee")
    masks.find(PiiType.NAME, "Ann Day")
    assert masks.find(PiiType.NAME, "Ann") == "<NAME_C>"


def test_what_only_looks_alike_is_not_one():
    masks = Masks()
    mails = [masks.find(PiiType.EMAIL, f"john{sign}smith@ex.example") for sign in ".-+"]
    assert len(set(mails)) == 3
    assert masks.find(PiiType.NAME, "\u30ac\u7530") != masks.find(PiiType.NAME, "\u30ab\u7530")


def test_sessions_cannot_be_linked_by_their_masks():
    one, other = Masks(), Masks()
    one.find(PiiType.NAME, "Bob")
    assert one.find(PiiType.NAME, "Ann") == "<NAME_B>"
    assert other.find(PiiType.NAME, "Ann") == "<NAME_A>"


def test_masking_keeps_all_else_as_it_was():
    text = "I am Ann, mail a@b.example.com "
    spans = [Span(5, 8, PiiType.NAME), *find_by_rule(text)]
    assert Masks().mask(text, spans) == "I am <NAME_A>, mail <EMAIL_A> "


def test_masks_are_counted_as_columns_are():
    assert [name_number(n) for n in (0, 25, 26, 701, 702)] == ["A", "Z", "AA", "ZZ", "AAA"]
    assert re.fullmatch(MASK, f"<NAME_{name_number(18277)}>")
