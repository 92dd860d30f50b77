"""Cleaning steps, one by one."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep.clean import clean_text
from terry.data_prep.config import Clean


@pytest.mark.parametrize(
    ("step", "before", "after"),
    [
        (Clean.deleted, "[deleted]", ""),
        (Clean.deleted, " [removed]\n", ""),
        (Clean.deleted, "it was [deleted] then", "it was [deleted] then"),
        (Clean.html_entities, "a &gt; b &amp;amp; &#8217;", "a > b &amp; ’"),
        (Clean.html_tags, "one<br/>two <a href='x'>three</a> 1 < 2 > 0", "one two  three  1 < 2 > 0"),
        (Clean.markdown, "**bold** and *it* and __b__ and _i_", "bold and it and b and i"),
        (Clean.markdown, "***both*** ~~gone~~ `code`", "both gone code"),
        (Clean.markdown, '[text](http://x.org/a_(b)) and ![pic](y.png "t")', "text and pic"),
        (Clean.markdown, "# Title #\ntext\n***\n---\n* item\n- item\n> said", "Title\ntext\n\n\nitem\nitem\nsaid"),
        (Clean.markdown, "2 * 3 * 4, snake_case_name, a*b*c", "2 * 3 * 4, snake_case_name, a*b*c"),
        (Clean.markdown, r"\*not it\* x^2 ^(small)", "*not it* x2 small"),
        (Clean.markdown, ">!spoiler!<", "spoiler"),
        (Clean.quotes_of_others, "> said\nreply\n>> more\nend > 1", "reply\nend > 1"),
        (Clean.urls, "see https://x.org/a?b=1, or (www.y.com).", "see URL, or (URL)."),
        (Clean.control, "a\x07b\x00c\ufeffd\u200be\tf\ng\u2028h", "abcde\tf\ng\nh"),
        (Clean.control, "plain\ttext\r\n", "plain\ttext\r\n"),
        (Clean.straight_quotes, "“so” ‘it’s’ «x»", '"so" \'it\'s\' "x"'),
        (Clean.nfc, "cafe\u0301", "café"),
    ],
)
def test_step(step: Clean, before: str, after: str) -> None:
    assert clean_text(before, [step]) == after


def test_steps_run_in_their_order_whatever_is_asked() -> None:
    text = "&gt; said\n&lt;b&gt;bold&lt;/b&gt; **x**"
    steps = [Clean.markdown, Clean.html_tags, Clean.quotes_of_others, Clean.html_entities]
    assert clean_text(text, steps) == clean_text(text, steps[::-1]) == " bold  x"


def test_family_emoji_and_marks_are_not_control_characters() -> None:
    text = "👨‍👩‍👧 हिन्दी क्‍ष 🇬🇷 ❤️"
    assert clean_text(text, list(Clean)) == text


@settings(deadline=None)  # files on a busy machine take their time
@given(st.text(max_size=300))
def test_no_step_means_no_change_and_all_steps_end(text: str) -> None:
    assert clean_text(text, []) == text
    cleaned = clean_text(text, list(Clean))
    assert not any(mark in cleaned for mark in "\x00\x01\x02\x03")


@pytest.mark.timeout(20)
@pytest.mark.parametrize("piece", ["*", "_", "[", "](", "`", ">", "~~", "<a ", "* ", "[x](", "https://", "&"])
def test_long_runs_of_markup_do_not_take_for_ever(piece: str) -> None:
    assert clean_text(piece * 5_000, list(Clean)) is not None
