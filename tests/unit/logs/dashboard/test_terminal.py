"""Bytes of a terminal to keys."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.logs.dashboard.terminal import keys


@pytest.mark.parametrize(
    ("data", "expected"),
    [
        (b"j", ["j"]),
        (b"\x1b[A\x1bOB", ["up", "down"]),
        (b"\x1b", ["escape"]),
        (b"\x1b[5~\x1b[6~", ["pageup", "pagedown"]),
        (b"\r\x7f", ["enter", "backspace"]),
        ("äß猫".encode(), ["ä", "ß", "猫"]),
        (b"\x1b[200~x\x1b[201~", ["x"]),  # what a bracketed paste sends around its text means nothing
        (b"\x1b[1;5C\x01", []),
    ],
)
def test_keys(data: bytes, expected: list[str]) -> None:
    """Known sequences have names; unknown ones are no keys."""
    assert keys(data) == expected


@given(st.binary(max_size=60))
def test_any_bytes_are_keys_or_nothing(data: bytes) -> None:
    """No input raises, and no control character gets through as text."""
    for key in keys(data):
        assert len(key) > 1 or key.isprintable()
