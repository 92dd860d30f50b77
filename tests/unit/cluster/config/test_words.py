"""What words without quotes mean, as a table of forms; and that text keeps its writing."""

from __future__ import annotations

import json
import math
import re

import pytest
from hypothesis import assume, given
from hypothesis import strategies as st

from terry.cluster.config.words import Plain, boolean, meaning, number, seconds, why_no_number

NUMBERS = [
    ("0", 0), ("10", 10), ("-3", -3), ("+7", 7), ("1_000", 1000), ("1_000_000", 1_000_000), ("0x1f", 31), ("0x1F", 31),
    ("0.5", 0.5), (".5", 0.5), ("5.", 5.0), ("1e-4", 1e-4), ("2E3", 2000.0), ("1.5e+3", 1500.0), ("-.5", -0.5),
    ("1_000.5", 1000.5), ("0e5", 0.0), ("0.0", 0.0), ("1.10", 1.1), ("18446744073709551615", 2**64 - 1),
]  # fmt: skip

TEXTS = [
    "4e2a91f", "2e3-lstm", "5e4-comments.csv", "61e9540", "-61e9540", "1e-9999", "16:9", "22:22", "4:00:00", "010",
    "0123", "007.5", "00", "1_0", "12_34", "_1", "1__000", "0b101", "0o17", "1.2.3", "1,5", "2026-11-29", "1e", "e5",
    "1e5.5", "--1", "+", "-", ".", "0x", "0xg", ".inf", "-.inf", ".nan", "nan", "inf", "Infinity",
    "18446744073709551616", "1" * 5000, "9" * 400 + ".5", "١٢", "yes", "no", "on", "off", "y", "n", "NO", "=", "tRUE",
    "1 000", "10%", "0.5s",
]  # fmt: skip


@pytest.mark.parametrize(("text", "value"), NUMBERS)
def test_what_is_wholly_a_number_is_one(text: str, value: float) -> None:
    assert number(text) == value
    assert type(number(text)) is type(value)
    assert meaning(text) == value


@pytest.mark.parametrize("text", TEXTS)
def test_what_is_not_is_text(text: str) -> None:
    assert number(text) is None
    assert meaning(text) == text
    assert type(meaning(Plain(text))) is str


def test_a_switch_takes_more_words_than_free_settings() -> None:
    for word in ("true", "True", "TRUE"):
        assert boolean(word, switch=True) is boolean(word, switch=False) is meaning(word) is True
    for word in ("false", "False", "FALSE"):
        assert boolean(word, switch=True) is boolean(word, switch=False) is meaning(word) is False
    for word in ("yes", "Yes", "YES", "on", "On", "ON"):
        assert boolean(word, switch=True) is True
    for word in ("no", "No", "NO", "off", "Off", "OFF"):
        assert boolean(word, switch=True) is False
    assert all(boolean(word, switch=True) is None for word in ("y", "n", "1", "0", "yEs", ""))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("010", "write 10: a leading 0 could mean base 8"),
        ("00", "write 0"),
        ("16:9", "a colon makes no number"),
        ("-.inf", "it must be finite"),
        ("61e9540", "no 64-bit number holds it"),
        ("1" * 50, "no 64-bit number holds it"),
    ],
)
def test_why_it_is_no_number(text: str, said: str) -> None:
    assert said in why_no_number(text)


@pytest.mark.parametrize("text", ["big", "1.5", "10", "2026-11-29", "yes"])
def test_nothing_is_said_of_other_words(text: str) -> None:
    assert why_no_number(text) == ""


@given(st.integers(-(2**63), 2**64 - 1))
def test_any_whole_number(value: int) -> None:
    assert number(str(value)) == value
    assert number(f"{value:_}") == value


@given(st.floats(allow_nan=False, allow_infinity=False))
def test_any_float_as_python_and_json_write_it(value: float) -> None:
    for text in (repr(value), json.dumps(value)):
        found = number(text)
        assert found is not None
        assert math.copysign(1, found) == math.copysign(1, value)
        assert found == value


@given(st.from_regex(r"[-+0-9a-fxXeE_.:]{1,12}", fullmatch=True))
def test_a_number_is_what_python_reads_too(text: str) -> None:
    """The reference: Python's own reading of the same characters; and no other word is taken for a number."""
    found = number(text)
    if found is None:
        return
    expected = int(text, 16) if "x" in text.lower() else float(text)
    assert found == expected or float(found) == expected
    assert re.fullmatch(r"[-+]?(0|0x.*|[1-9].*|0?\..*|0[.eE].*)", text), "no leading zero"


@given(st.text(min_size=1, max_size=12))
def test_text_stays_to_the_letter(text: str) -> None:
    assume(number(text) is None and boolean(text, switch=False) is None)
    assert meaning(Plain(text)) == text


@pytest.mark.parametrize(
    ("value", "expected"),
    [("90", 90), (90, 90), (0.5, 0.5), ("90 s", 90), ("5 min", 300), ("2h", 7200), ("1 day", 86400), ("1.5 H", 5400)],
)
def test_durations(value: float | str, expected: float) -> None:
    assert seconds(value) == expected


@pytest.mark.parametrize("value", ["soon", "5 weeks", "-1", -1, float("inf"), float("nan"), "1:30", ""])
def test_what_is_no_duration(value: float | str) -> None:
    with pytest.raises(ValueError, match="duration"):
        seconds(value)
