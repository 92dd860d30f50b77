"""The page as text: whole, small, and harmless whatever stands in it."""

from __future__ import annotations

import dataclasses
import html.parser
import re

from hypothesis import given
from hypothesis import strategies as st

from terry.logs.report.content import Sample
from terry.logs.report.page import page
from tests.unit.logs.report.reports import report

_VOID = {"meta", "br"}


class Outline(html.parser.HTMLParser):
    """Tags that are open at the end, and everything that could fetch or run."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: set[str] = set()
        self.suspicious: list[str] = []

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.tags.add(tag)
        self.suspicious += [f"{tag} {name}" for name, _ in attrs if name in {"src", "href"} or name.startswith("on")]
        if tag not in _VOID:
            self.open.append(tag)

    def handle_endtag(self, tag: str) -> None:
        assert self.open.pop() == tag


def outline(text: str) -> Outline:
    found = Outline()
    found.feed(text)
    found.close()
    return found


def test_every_tag_is_closed_and_nothing_is_fetched() -> None:
    found = outline(page(report()))
    assert found.open == []
    assert found.suspicious == []
    assert {"svg", "table", "details", "blockquote"} <= found.tags
    assert not {"link", "img", "iframe"} & found.tags


@given(st.text(max_size=40))
def test_words_of_people_and_jobs_are_only_words(words: str) -> None:
    made = dataclasses.replace(report(("gru",), 1), title=words, samples=(Sample(model=words, texts=(words,)),))
    before, after = outline(page(report(("gru",), 1))), outline(page(made))
    assert after.tags == before.tags
    assert after.open == []


def test_markup_and_escapes_of_a_job_do_nothing() -> None:
    bad = "<script>alert(1)</script>\x1b]0;title\x07"
    text = page(dataclasses.replace(report(), samples=(Sample(model="m", texts=(bad,)),)))
    assert "<script>alert" not in text
    assert "&lt;script&gt;" in text
    assert "\x1b" not in text


def test_the_best_configuration_and_its_interval_are_said() -> None:
    text = page(report())
    assert "<strong>cell=gru</strong>, 4.0033 (95% interval 3.9654 to 4.0413, n = 3)" in text
    assert "What is shaded cannot be told apart" not in text, "these can"
    assert "crashed: SIGSEGV" in text
    assert "call me ishmael.\nsome years ago" in text


def test_a_thousand_runs_are_a_small_page() -> None:
    text = page(report(tuple(f"cell{i}" for i in range(200)), 5, steps=500))
    assert len(text) < 5_000_000
    assert "1,000 runs" in text


def test_colours_are_legible_on_white_and_on_black() -> None:
    from terry.logs.report.look import PALETTE

    for colour in PALETTE:
        red, green, blue = (int(part, 16) / 255 for part in re.findall("..", colour[1:]))
        linear = [c / 12.92 if c <= 0.04045 else ((c + 0.055) / 1.055) ** 2.4 for c in (red, green, blue)]
        luminance = 0.2126 * linear[0] + 0.7152 * linear[1] + 0.0722 * linear[2]
        assert 1.05 / (luminance + 0.05) >= 3.0, f"{colour} on white (WCAG 2.2, 1.4.11)"
        assert (luminance + 0.05) / 0.0583 >= 2.9, f"{colour} on the dark ground"
