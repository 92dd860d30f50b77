"""The structure of a YAML file: lines, keys, merges, what is refused, and what is said of broken structure."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.config.words import Plain
from terry.cluster.config.yaml_file import of_values, parse, plain, read
from terry.cluster.errors import UserError


def said(text: str | bytes) -> str:
    with pytest.raises(UserError) as caught:
        parse(text, "f.yaml")
    return str(caught.value)


def test_words_without_quotes_keep_their_writing() -> None:
    found = parse("a: 1.10\nb: '1.10'\nc: |\n  1.10\nd: [010, NO, ~, null, x]\n", "f").value
    assert found == {"a": "1.10", "b": "1.10", "c": "1.10\n", "d": ["010", "NO", None, None, "x"]}
    assert [type(found[key]) for key in "abc"] == [Plain, str, str]


def test_keys_are_text_as_it_is_written() -> None:
    assert list(parse("{007: a, on: b, 1.0: c, null: d, 2026-01-01: e}", "f").value) == [
        "007", "on", "1.0", "null", "2026-01-01",
    ]  # fmt: skip


def test_every_value_has_its_line() -> None:
    document = parse("a:\n  b:\n    - 1\n    - c: 2\nd: 3\n", "f")
    places = [("a",), ("a", "b"), ("a", "b", 0), ("a", "b", 1, "c"), ("d",), ("a", "b", "gone")]
    assert [document.line(place) for place in places] == [1, 2, 3, 4, 5, 2]


def test_merged_keys_give_way_to_what_is_written_out() -> None:
    text = "one: &a {x: 1, y: 1}\ntwo: &b {y: 2, z: 2}\nboth: {<<: [*a, *b], z: 3}\nlast:\n  x: 9\n  <<: *a\n"
    found = plain(parse(text, "f").value)
    assert found["both"] == {"x": 1, "y": 1, "z": 3}, "of two, the first one counts"
    assert found["last"] == {"x": 9, "y": 1}


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("a:\n\tb: 1\n", "f.yaml:2: not valid YAML: a tab in the indentation; YAML takes blanks only"),
        ("\ta: 1\n", "f.yaml:1: not valid YAML: a tab in the indentation"),
        ("a: 1\n\tb: 1\n", "f.yaml:2: not valid YAML: a tab in the indentation"),
        ("run:\n  model:\n  cell: gru\n   layers: 2\n", "f.yaml:4: not valid YAML: this line is indented unlike its"),
        ("a: 1\n b: 2\n", "f.yaml:2: not valid YAML: this line is indented unlike its neighbours"),
        ("  a: 1\nb: 2\n", "f.yaml:2: not valid YAML: this line is indented unlike its neighbours"),
        ("a:1\nb: 2\n", "f.yaml:2: not valid YAML: this line is indented unlike its neighbours, or a blank is missing"),
        ("- a\nb: 1\n", "f.yaml:2: not valid YAML: a list and `key: value` in one place"),
        ("a: b: c\n", "f.yaml:1: not valid YAML: a second `: ` in one line"),
        ("a: *H100*\n", "f.yaml:1: not valid YAML: text that begins with * must stand in quotes"),
        ("a: @x\n", "f.yaml:1: not valid YAML: text that begins with @ must stand in quotes"),
        ("a: %x\n", "f.yaml:1: not valid YAML: text that begins with % must stand in quotes"),
        ("a: `x`\n", "f.yaml:1: not valid YAML: text that begins with ` must stand in quotes"),
        ("a: 'x\nb: 2", "the quotation mark in line 1 is not closed"),
        ("a: [1, 2\nb: 2\n", "f.yaml:2: not valid YAML: the list that begins in line 1 is not closed, or a comma"),
        ("a: {b: 1\n", "the mapping that begins in line 1 is not closed, or a comma is missing"),
        ("a: [1, 2]]\n", "f.yaml:1: not valid YAML: one ] too many"),
        (
            "a: !!python/object:x.y 1\n",
            "f.yaml:1: the tag !!python/object:x.y has no meaning here; write the value alone",
        ),
        ("b: 1\na: !!binary aGk=\n", "f.yaml:2: the tag !!binary has no meaning here"),
        ("a: !mine {b: 1}\n", "f.yaml:1: the tag !mine has no meaning here"),
        ("a: 1\na: 2\n", "f.yaml:2: 'a' stands twice (first in line 1); keep one of them"),
        ("a: 1\n'a': 2\n", "f.yaml:2: 'a' stands twice"),
        ("a:\n  [b, c]: 1\n", "f.yaml:2: a key must be text"),
        ("a:\n  ? {b: 1}\n  : 1\n", "f.yaml:2: a key must be text"),
        ("a:\n  ~: 1\n", "f.yaml:2: a key must be text"),
        ("a: {<<: 3}\n", "f.yaml:1: `<<` must name a mapping"),
        ("a: &x [*x]\n", "alias contains itself"),
        ("a: 1\n---\nb: 2\n", "f.yaml:2: not valid YAML: "),
        ("a: \0\n", "f.yaml: not valid YAML: unacceptable character"),
        ("[" * 2000, "f.yaml:"),
        ("a: 1\nb: ä\n".encode("latin-1"), "f.yaml:2: not UTF-8: "),
    ],
)
def test_a_mistake_is_told_in_plain_words(text: str | bytes, expected: str) -> None:
    assert expected in said(text)


def test_a_small_file_of_aliases_is_not_made_enormous() -> None:
    rows = [f"k{i}: &k{i} [{', '.join([f'*k{i - 1}'] * 9)}]" for i in range(1, 9)]
    assert "too large" in said("\n".join(["k0: &k0 [x, x, x, x, x, x, x, x, x]", *rows]))


def test_a_text_may_be_marked_as_one() -> None:
    assert parse("a: !!str 10\n", "f").value == {"a": "10"}


def test_a_file_with_a_byte_order_mark(tmp_path: Path) -> None:
    (tmp_path / "a.yaml").write_bytes("a: b\n".encode("utf-8-sig"))
    assert read(tmp_path / "a.yaml").value == {"a": "b"}


_WORDS = st.text(min_size=0, max_size=8) | st.sampled_from(
    [
        "no",
        "010",
        "1e-4",
        "61e9540",
        "16:9",
        "~",
        "null",
        "",
        "2026-01-01",
        "true",
        "<<",
        "=",
        " a",
        "0x1f",
        ".inf",
        "1_000",
    ]
)
_VALUES = st.recursive(
    st.none()
    | st.booleans()
    | st.integers(-(2**63), 2**64 - 1)
    | st.floats(allow_nan=False, allow_infinity=False)
    | _WORDS,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(_WORDS.filter(bool), inner, max_size=3),
    max_leaves=8,
)


@given(st.dictionaries(_WORDS.filter(bool), _VALUES, max_size=4))
def test_pythons_values_come_back_from_the_file_that_they_would_be(value: dict[str, Any]) -> None:
    document, content = of_values(value, Path())
    assert document.value == value
    found = plain(parse(content, "f").value or {})
    assert found == value
    assert repr(found) == repr(value), "of the same types"


@pytest.mark.parametrize("value", [math.inf, math.nan, 2**64, {1}, b"x", {1: 2}])
def test_what_no_file_can_hold_is_refused_by_name(value: object) -> None:
    with pytest.raises(UserError, match=r"the sweep: (a\.b|a)"):
        of_values({"a": {"b": value}}, Path())
