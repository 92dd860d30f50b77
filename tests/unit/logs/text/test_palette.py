"""The colours of the views are legible on a dark ground and on a light one."""

from __future__ import annotations

import re

import pytest
from rich.color import Color

from terry.logs.text import palette

GROUNDS = {"black": (0, 0, 0), "dark grey": (30, 30, 30), "white": (255, 255, 255), "paper": (250, 246, 238)}
STYLES = sorted({*palette.STATES.values(), *palette.SERIES, palette.GOOD, palette.WARNING} - {"dim"})


def luminance(colour: tuple[int, int, int]) -> float:
    """Relative luminance (WCAG 2.2, "relative luminance")."""
    parts = [c / 255 for c in colour]
    linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in parts]
    return 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]


def contrast(one: tuple[int, int, int], other: tuple[int, int, int]) -> float:
    """Contrast ratio, 1 to 21."""
    low, high = sorted((luminance(one), luminance(other)))
    return (high + 0.05) / (low + 0.05)


@pytest.mark.parametrize("ground", GROUNDS)
@pytest.mark.parametrize("style", STYLES)
def test_legible_on_dark_and_light(style: str, ground: str) -> None:
    """Contrast 3 at least (WCAG 2.2, 1.4.11), whatever the ground."""
    colour = Color.parse(style.removeprefix("bold "))
    assert contrast(tuple(colour.get_truecolor()), GROUNDS[ground]) >= 3.0


@pytest.mark.parametrize("style", [*STYLES, "dim"])
def test_as_escape_sequence(style: str) -> None:
    """Both with 256 colours and with 16 there is a code; only with 256 a number of the large palette."""
    assert re.fullmatch(r"(1;)?38;5;\d+|2", palette.sgr(style, many=True))
    assert re.fullmatch(r"(1;)?3[1-6]|2", palette.sgr(style, many=False))
