"""JSON in the one way that every other reader agrees with."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mcp_chassis.http.strict_json import InvalidJson, has_more_nodes, parse_json

VALUES = st.recursive(
    st.one_of(
        st.none(),
        st.booleans(),
        st.integers(-(10**30), 10**30),
        st.floats(allow_nan=False, allow_infinity=False),
        st.text(),
    ),
    lambda children: st.lists(children, max_size=4) | st.dictionaries(st.text(max_size=5), children, max_size=4),
    max_leaves=20,
)
# Bytes that are almost JSON: what fuzzing at random hardly ever hits.
PIECES = st.lists(
    st.sampled_from(
        [
            *('"', "\\", "\\u", "d800", "dc00", "{", "[", "]", "}", ":", ",", "0", "1", "-", ".", "e", "E+5", " "),
            *("null", "true", "NaN", "Infinity", "a", "ä", "\x00", "\ufeff", '"a"', '"a":1', '"b":2', "[1]", "0.1"),
            *("-0", "\\ud83d\\ude00"),
        ]
    ),
    max_size=12,
)


@given(VALUES)
def test_every_ordinary_value_comes_back(value: Any) -> None:
    for text in (json.dumps(value), json.dumps(value, ensure_ascii=False, indent=1)):
        assert parse_json(text.encode()) == value


def _same_as_the_lenient_parser(document: bytes) -> None:
    try:
        value = parse_json(document)
    except InvalidJson:
        return
    assert repr(value) == repr(json.loads(document)), "also where 1 == True and 0.0 == -0.0"
    again = json.dumps(value, ensure_ascii=False).encode()
    assert repr(parse_json(again)) == repr(value)


@given(PIECES.map("".join).map(str.encode))
def test_what_it_accepts_every_reader_reads_alike(document: bytes) -> None:
    _same_as_the_lenient_parser(document)


@given(st.binary(max_size=30))
def test_no_bytes_make_it_fail_in_another_way(document: bytes) -> None:
    _same_as_the_lenient_parser(document)


@pytest.mark.parametrize(
    ("document", "why"),
    [
        (b"", "not JSON"),
        (b"{'a': 1}", "not JSON"),
        (b"[1,]", "not JSON"),
        (b"[1] // comment", "not JSON"),
        (b"01", "not JSON"),
        (b'"\n"', "not JSON"),
        (b'{"a": 1}{"b": 2}', "not JSON"),
        (b"\xef\xbb\xbf{}", "byte order mark"),
        ('{"a": 1}'.encode("utf-16"), "not UTF-8"),
        ('{"a": 1}'.encode("utf-16-le"), "not JSON"),
        (b'"\xff"', "not UTF-8"),
        (b'"\xed\xa0\x80"', "not UTF-8"),
        (b'"\xc0\xaf"', "not UTF-8"),
        (b'{"a": 1, "a": 1}', "two members"),
        (b'{"a": 1, "\\u0061": 2}', "two members"),
        (b'[{"b": {"a": 1, "a": 2} }]', "two members"),
        (b"NaN", "NaN"),
        (b"[Infinity]", "Infinity"),
        (b"-Infinity", "Infinity"),
        (b"1e999", "out of range"),
        (b"-1e999", "out of range"),
        (b"1" * 41, "longer than 40"),
        (b"-0." + b"1" * 40, "longer than 40"),
        (b'"\\ud800"', "surrogate"),
        (b'"\\udc00\\ud800"', "surrogate"),
        (b'{"\\ud800": 1}', "surrogate"),
        (b"[" * 65 + b"]" * 65, "more than 64"),
        (b'{"a":' * 65 + b"1" + b"}" * 65, "more than 64"),
        (b'[{"a":' * 33 + b"1" + b"}]" * 33, "more than 64"),
        (b"[[], " + b"[" * 64 + b"]" * 65, "more than 64"),
        (b"[]" * 65 + b"]" * 1_000_000, "not JSON"),
        (b"[" * 1_000_000, "more than 20000 values"),
    ],
    ids=lambda value: repr(value[:30]),
)
def test_what_readers_disagree_about_is_refused(document: bytes, why: str) -> None:
    with pytest.raises(InvalidJson, match=why):
        parse_json(document)


@pytest.mark.parametrize(
    ("document", "value"),
    [
        (b"[" * 64 + b"]" * 64, None),
        (b'"' + b"[" * 1000 + b'"', "[" * 1000),
        (b'["' + b'[\\"' * 100 + b'"]', ['["' * 100]),
        (b"[" + b"[]," * 999 + b"[]]", [[]] * 1000),
        (b'"\\ud83d\\ude00"', "\U0001f600"),
        (b'"\\u0000"', "\0"),
        (b"1" * 40, int("1" * 40)),
        (b"1e-999", 0.0),
        (b" \t\r\n{} ", {}),
    ],
    ids=lambda value: repr(value)[:30],
)
def test_what_only_looks_dangerous_is_accepted(document: bytes, value: Any) -> None:
    parsed = parse_json(document)
    assert value is None or parsed == value


def test_depth_64_and_40_digits_are_the_limits() -> None:
    with pytest.raises(InvalidJson):
        parse_json(b"[" * 65 + b"]" * 65)
    with pytest.raises(InvalidJson):
        parse_json(b"1" * 41)
    assert parse_json(b"[" * 64 + b"]" * 64)
    assert parse_json(b"1" * 40) == int("1" * 40)


def test_the_message_holds_nothing_of_the_document() -> None:
    for document in (b'{"hunter2": 1, "hunter2": 2}', b'"hunter2', b'{"hunter2": NaN}'):
        with pytest.raises(InvalidJson) as refusal:
            parse_json(document)
        assert "hunter2" not in str(refusal.value)


@pytest.mark.parametrize("unit", [b"[", b'"', b"\\", b'\\"', b"{" + b'"a":', b'"[', b"\\[", b'"\\'])
def test_a_megabyte_of_anything_takes_linear_time(unit: bytes) -> None:
    """Each of these took minutes with a pattern that goes back."""
    document = b"[" * 65 + b'"' + unit * (1_000_000 // len(unit))
    with pytest.raises(InvalidJson):
        parse_json(document)


AWKWARD = st.text(st.sampled_from('\\",[{:}]a\n\u0301'), max_size=8)
ANY_JSON = st.recursive(
    st.none() | st.integers() | AWKWARD,
    lambda inner: st.lists(inner, max_size=5) | st.dictionaries(AWKWARD, inner, max_size=5),
    max_leaves=20,
)


def values_in(value: Any) -> int:
    """Return the members and items beyond the first, objects and arrays in a value."""
    if not isinstance(value, dict | list):
        return 0
    inner = list(value.values()) if isinstance(value, dict) else value
    return max(1, len(inner)) + sum(map(values_in, inner))


@given(ANY_JSON, st.booleans())
def test_values_are_counted_without_parsing(value: Any, ascii_only: bool) -> None:
    document, count = json.dumps(value, ensure_ascii=ascii_only).encode(), values_in(value)
    assert not has_more_nodes(document, max(1, count))
    if count > 1:
        assert has_more_nodes(document, count - 1)
