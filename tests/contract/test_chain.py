"""Event lines and their chain, against canonical texts written by hand and against jq where it is installed."""

from __future__ import annotations

import hashlib
import json
import math
import shutil
import subprocess
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from contract.chain import GENESIS, event_name, extend, line_hash, parse_event_line, quarantined_hash
from contract.errors import EventLineInvalid

HEAD = b'"event":"e","timestamp":"t"'


def hash_of(line: bytes) -> bytes:
    return line_hash(parse_event_line(line))


def sha(text: str) -> bytes:
    return hashlib.sha256(text.encode("utf-8")).digest()


# A value as it stands on the line -> as it stands in the canonical form (RFC 8785, numbers as IEEE doubles).
VALUES: list[tuple[bytes, str]] = [
    (b"1", "1"),
    (b"1.0", "1"),
    (b"-0", "0"),
    (b"-0.0", "0"),
    (b"1e2", "100"),
    (b"0.1", "0.1"),
    (b"1E-7", "1e-7"),
    (b"0.000001", "0.000001"),
    (b"123456789012345680000", "123456789012345680000"),
    (b"1e21", "1e+21"),
    (b"9007199254740993", "9007199254740992"),
    (b"12345678901234567890", "12345678901234567000"),
    (b"100000000000000000000000", "1e+23"),
    (b"3.0000000000000001", "3"),
    (b"5e-324", "5e-324"),
    (b"1e-400", "0"),
    (b"1e400", "null"),
    (b"-1e400", "null"),
    (b"NaN", "null"),
    (b"Infinity", "null"),
    (b"9" * 400, "null"),
    (b"1" + b"0" * 305, "1e+305"),
    (b"true", "true"),
    (b"false", "false"),
    (b"null", "null"),
    (b"[1, 2.50, [] , {}]", "[1,2.5,[],{}]"),
    (b'{"b":1,"a":{"d":[],"c":null}}', '{"a":{"c":null,"d":[]},"b":1}'),
    (b'{"x":1,"x":2}', '{"x":2}'),
    (b'"a\\/b\\u0041\\u00e9"', '"a/bA\u00e9"'),
    (b'"\\u001f\\n\\t\\"\\\\\\u007f"', '"\\u001f\\n\\t\\"\\\\\x7f"'),
    (b'"\\u2028</script>"', '"\u2028</script>"'),
    (b'"\\ud83d\\ude00"', '"\U0001f600"'),
    ('"\U0001f600"'.encode(), '"\U0001f600"'),
    (b'"\\ud83d"', '"\ufffd"'),
    (b'"\\ude00\\ud83d x"', '"\ufffd\ufffd x"'),
    (b'"\xff"', '"\ufffd"'),
    (b'"\xc3"', '"\ufffd"'),
    (b'"\xed\xa0\x80"', '"\ufffd\ufffd\ufffd"'),
    ('"\ufeffx"'.encode(), '"\ufeffx"'),
]


@pytest.mark.parametrize(("written", "canonical"), VALUES, ids=[repr(value[0][:24]) for value in VALUES])
def test_line_is_hashed_by_the_canonical_form_of_its_json(written: bytes, canonical: str) -> None:
    line = b'{"timestamp":"t" , "event":"e","data":' + written + b"}"
    assert hash_of(line) == sha('{"data":' + canonical + ',"event":"e","timestamp":"t"}')


def test_keys_are_ordered_by_utf16_units_as_rfc_8785_says() -> None:
    line = '{"event":"e","timestamp":"t","\ufb33":1,"\U0001f600":2,"\u20ac":3,"1":4,"\\ud800":5}'.encode()
    assert hash_of(line) == sha('{"1":4,"event":"e","timestamp":"t","\u20ac":3,"\U0001f600":2,"\ufb33":1,"\ufffd":5}')


def test_white_space_and_order_on_the_line_do_not_matter() -> None:
    assert hash_of(b'{"timestamp":"t","event":"e"}') == hash_of(b' \t{ "event" : "e",\r"timestamp" : "t" }\r')


BAD: list[tuple[bytes, str]] = [
    (b"", "empty line"),
    (b" \t\r", "empty line"),
    (b"{", "not JSON: "),
    (b'{"event":"e","timestamp":"t"', "not JSON: "),
    (b'{"event":"e","timestamp":"t"} x', "not JSON: "),
    (b'{"event":"e","timestamp":"t"}{"event":"e","timestamp":"t"}', "not JSON: "),
    (b"\x00" * 40, "not JSON: "),
    (b"garbage \xff\xfe", "not JSON: "),
    ("\u00a0{}".encode(), "not JSON: "),
    (b"\x0b{}", "not JSON: "),
    (b"[" * 100_000, "not JSON: nested too deeply"),
    (b'{"event":"e","timestamp":"t","data":' + b"[" * 500 + b"]" * 500 + b"}", "not JSON: nested too deeply"),
    (b'{"event":"e","timestamp":"t","data":01}', "not JSON: "),
    (b"{'event':'e'}", "not JSON: "),
    (b'[{"event":"e","timestamp":"t"}]', "not an object but list"),
    (b'"text"', "not an object but str"),
    (b"7", "not an object but int"),
    (b"null", "not an object but NoneType"),
    (b"{}", "no event name"),
    (b'{"timestamp":"t"}', "no event name"),
    (b'{"event":"","timestamp":"t"}', "no event name"),
    (b'{"event":7,"timestamp":"t"}', "no event name"),
    (b'{"event":"e"}', "no timestamp"),
    (b'{"event":"e","timestamp":""}', "no timestamp"),
    (b'{"event":"e","timestamp":1795334852}', "no timestamp"),
    (b'{"event":"e","timestamp":null}', "no timestamp"),
]


@pytest.mark.parametrize(("line", "reason"), BAD, ids=[f"{case[0][:24]!r}" for case in BAD])
def test_line_that_cannot_be_an_event_is_quarantined_with_a_short_stable_reason(line: bytes, reason: str) -> None:
    with pytest.raises(EventLineInvalid) as raised:
        parse_event_line(line)
    assert str(raised.value).startswith(reason)
    assert len(str(raised.value)) < 160


def test_type_names_an_event_that_has_no_event_field() -> None:
    assert event_name({"type": "role_start"}) == "role_start"
    assert event_name({"event": "loop_start", "type": "role_start"}) == "loop_start"
    assert event_name({"event": "", "type": "role_start"}) == "role_start"
    assert event_name({"event": None, "type": 5}) is None
    assert parse_event_line(b'{"type":"x","timestamp":"t"}')["type"] == "x"


def test_chain_over_good_and_bad_lines_is_what_an_independent_hand_computes() -> None:
    lines = [b"{" + HEAD + b"}", b"garbage\xff", b'{"timestamp":"t","event":"e","iteration":2}']
    chain = GENESIS
    for line in lines:
        try:
            chain = extend(chain, hash_of(line))
        except EventLineInvalid:
            chain = extend(chain, quarantined_hash(line))
    one = hashlib.sha256(b'{"event":"e","timestamp":"t"}').digest()
    two = hashlib.sha256(b"!garbage\xff").digest()
    three = hashlib.sha256(b'{"event":"e","iteration":2,"timestamp":"t"}').digest()
    expected = b"\x00" * 32
    for h in (one, two, three):
        expected = hashlib.sha256(expected + h).digest()
    assert chain == expected


# Ordinary JSON, of which every printing must give one hash.
values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False) | st.text(max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=60, deadline=None)
@given(values)
def test_hash_does_not_depend_on_how_the_line_was_printed(value: Any) -> None:
    event = {"timestamp": "t", "event": "e", "data": value}
    ascii_line = json.dumps(event, indent=1).replace("\n", " ").encode()
    dense_line = json.dumps(event, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode("utf-8")
    assert hash_of(ascii_line) == hash_of(dense_line)


@settings(max_examples=60, deadline=None)
@given(values)
def test_hash_is_that_of_what_is_left_after_reserialising(value: Any) -> None:
    event = {"timestamp": "t", "event": "e", "data": value}
    again = json.loads(json.dumps(_as_doubles(event)))
    assert line_hash(event) == line_hash(again)


def _as_doubles(value: Any) -> Any:
    """The JSON as a peer has it that knows only IEEE doubles."""
    if isinstance(value, dict):
        return {key: _as_doubles(item) for key, item in value.items()}
    if isinstance(value, list):
        return [_as_doubles(item) for item in value]
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            number = float(value)
        except OverflowError:
            return None
        return number if math.isfinite(number) else None
    return value


@settings(max_examples=200, deadline=None)
@given(st.binary(max_size=40))
def test_any_bytes_are_an_event_or_quarantined_and_never_anything_else(line: bytes) -> None:
    try:
        parsed = parse_event_line(line)
    except EventLineInvalid:
        return
    assert event_name(parsed)
    assert line_hash(parsed)


@pytest.mark.skipif(shutil.which("jq") is None, reason="jq is not installed here")
def test_line_hashed_from_the_file_equals_the_line_hashed_after_jq() -> None:
    # What jq refuses (lone surrogates, Infinity) or clips (1e400) cannot have been re-serialised by it.
    strange = (b"\\ud83d", b"\\ude00\\ud83d", b"Infinity", b"NaN", b"e400", b"9" * 400, b"\xed\xa0")
    lines = [
        b'{"timestamp":"t","event":"e","data":' + written + b"}"
        for written, _ in VALUES
        if not any(part in written for part in strange) or written == b'"\\ud83d\\ude00"'
    ]
    done = subprocess.run(["jq", "-c", "."], input=b"\n".join(lines), capture_output=True, check=True, timeout=30)
    printed = done.stdout.splitlines()
    assert len(printed) == len(lines) > 25
    for line, again in zip(lines, printed, strict=True):
        assert hash_of(line) == hash_of(again), line
