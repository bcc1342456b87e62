"""Lines of JSON as exports have them."""

import gzip
import io
import json

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from pilotage_core.errors import InvalidInputError, UnavailableError
from pilotage_core.lines import decode_lines, mend_characters, name_files, read_lines, read_seconds

ANY = msgspec.json.Decoder()
THREE = b'{"n": 1}\n{"n": 2}\n\n{"n": 3}\n'


def numbers(data: bytes) -> list[tuple[int, object]]:
    return [(number, line["n"]) for number, line in decode_lines(io.BytesIO(data), ANY, "x", "thing")]


@pytest.mark.parametrize(
    "data",
    [
        THREE,
        gzip.compress(THREE),
        b"\xef\xbb\xbf" + THREE,
        gzip.compress(b"\xef\xbb\xbf" + THREE),
        THREE.replace(b"\n", b"\r\n"),
        THREE.replace(b"\n", b"\r"),
        THREE.rstrip(),
    ],
)
def test_lines_are_read_however_they_are_packed_marked_and_ended(data):
    assert numbers(data) == [(1, 1), (2, 2), (4, 3)]


@pytest.mark.parametrize(
    ("data", "said"),
    [
        (b'[{"n": 1}]', "is one JSON array"),
        (b'{\n "n": 1\n}', "is JSON over several lines"),
        (THREE.decode().encode("utf-16"), "is UTF-16"),
        (THREE.decode().encode("utf-16-le"), "is UTF-16"),
        (gzip.compress(gzip.compress(THREE)), "is compressed twice"),
        (b"PK\x03\x04" + bytes(50), "is an archive"),
        (THREE + b'{"n": ', "x:5"),
        (THREE + b"[" * 100_000, "x:5: is nested too deep"),
    ],
)
def test_what_are_no_lines_of_json_is_called_what_it_is(data, said):
    with pytest.raises(InvalidInputError) as refused:
        numbers(data)
    assert said in str(refused.value)


def test_an_export_that_was_cut_cannot_be_read():
    with pytest.raises(UnavailableError):
        list(read_lines(io.BytesIO(gzip.compress(b"x\n" * 9999)[:-10]), "x"))


@pytest.mark.parametrize(
    ("line", "text"),
    [
        (rb'{"t": "\ud83d"}', "\ufffd"),
        (rb'{"t": "\ude00 a"}', "\ufffd a"),
        (rb'{"t": "\ud83d\ude00"}', "\U0001f600"),
        (rb'{"t": "\ud83d\ud83d\ude00"}', "\ufffd\U0001f600"),
        (rb'{"t": "\\ud83d"}', "\\ud83d"),
        (rb'{"t": "\\\ud83d"}', "\\\ufffd"),
        (b'{"t": "caf\xe9"}', "caf\ufffd"),
        (b'{"t": "\xed\xa0\xbd"}', "\ufffd\ufffd\ufffd"),
    ],
)
def test_half_a_character_becomes_one_that_says_so_and_is_counted(line, text, caplog):
    [(_, found)] = decode_lines(io.BytesIO(line), ANY, "x", "thing")
    assert found == {"t": text}
    assert ("1 lines had characters that are none" in caplog.text) == ("\ufffd" in text)


@given(st.text())
def test_whole_text_is_left_as_it_is(text):
    for line in (
        json.dumps({"t": text}).encode(),
        json.dumps({"t": text}, ensure_ascii=False).encode("utf-8", "replace"),
    ):
        if not any(0xD800 <= ord(letter) < 0xE000 for letter in text):
            assert mend_characters(line) == line
        assert isinstance(ANY.decode(mend_characters(line)), dict)


def test_a_file_within_a_text_is_its_kind_and_size():
    said = "See data:image/png;base64," + "iVBORw0KGgo" * 1000 + " and data:text/plain;charset=utf-8;base64,aGk= please"
    assert name_files(said) == ("See [image/png, 8250 bytes] and [text/plain, 3 bytes] please", 2)
    assert name_files("no file; base64 is a way to write one") == ("no file; base64 is a way to write one", 0)


@pytest.mark.parametrize("unit", [1.0, 1e3, 1e6, 1e9])
@pytest.mark.parametrize("seconds", [631152000.0, 1.7e9, 4.1e9])
def test_a_time_is_in_the_unit_that_puts_it_into_this_century(unit, seconds):
    assert read_seconds(seconds * unit) == pytest.approx(seconds)


@pytest.mark.parametrize("number", [-1.0, 1e300, float("nan"), float("inf")])
def test_a_number_that_is_no_time_is_refused(number):
    with pytest.raises(ValueError, match="is no Unix time"):
        read_seconds(number)
