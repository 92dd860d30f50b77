"""Paragraphs into sentences: as the library splits each by itself, in linear time, whatever fails."""

from __future__ import annotations

import random
from collections.abc import Sequence
from itertools import pairwise

import pytest
import sentencex
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep import readers, sentences
from terry.data_prep.config import DatasetConfig, Paragraphs, SplitConfig, Splitter, Tokenizer, Unit
from terry.data_prep.dataset import Dataset
from terry.data_prep.prepare import prepare
from terry.data_prep.sentences import SentenceSplitter
from tests.unit.data_prep.conftest import Make

ALL = SplitConfig(train=1, valid=0, test=0)


def one_by_one(language: str, paragraphs: Sequence[str]) -> list[list[str]]:
    found = [sentencex.segment(language, paragraph) for paragraph in paragraphs]
    return [[part.strip() for part in parts if part.strip()] for parts in found]


MARKS = [".", "!", "?", "...", '"', "'", "(", ")", " ", " ", "\n", "。", "।", ";", ":", "”", "“", "«", "»", "-", "•"]
WORDS = ["Hello", "he left", "Mr.", "e.g.", "3.5", "A", "a@b.org", "é", "It was late.", "Was it?", "x" * 90, "U.S."]
pieces = st.sampled_from(MARKS + WORDS)
paragraph = (
    st.lists(pieces, min_size=1, max_size=12)
    .map("".join)
    .map(str.strip)
    .filter(lambda text: text and "\n\n" not in text)
)


@settings(deadline=None, max_examples=300)
@given(st.lists(paragraph, max_size=12), st.sampled_from(["en", "de", "el", "hi", "zh", "hy"]), st.integers(1, 400))
def test_many_together_come_out_as_each_alone(texts: list[str], language: str, call: int) -> None:
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "_CALL", call)
        assert SentenceSplitter(language).split(texts) == one_by_one(language, texts)


def test_a_call_of_many_kilobytes_loses_no_paragraph() -> None:
    texts = [f"Paragraph {i} is here. It has {'x' * 60} two." for i in range(2000)]
    splitter = SentenceSplitter("en")
    assert splitter.split(texts) == one_by_one("en", texts)
    assert splitter.failed == 0


class PanicException(BaseException):
    """What PyO3 makes of a panic, as far as anybody can tell from outside."""


PanicException.__module__ = "pyo3_runtime"


def test_a_paragraph_that_the_library_fails_on_is_split_at_full_stops_and_counted() -> None:
    def failing(language: str, text: str) -> Sequence[str]:
        if "odd" in text:
            raise PanicException("index out of bounds")
        return sentencex.segment(language, text)

    splitter = SentenceSplitter("en", failing)
    texts = ["One is here. Two is.", "An odd one. Is it? Yes.", "Three. Four."]
    assert splitter.split(texts) == [
        ["One is here.", "Two is."],
        ["An odd one.", "Is it?", "Yes."],
        ["Three.", "Four."],
    ]
    assert splitter.failed == 1


@pytest.mark.parametrize("error", [KeyboardInterrupt(), SystemExit(1), MemoryError()])
def test_what_is_no_failure_of_the_library_goes_on(error: BaseException) -> None:
    def failing(_language: str, _text: str) -> Sequence[str]:
        raise error

    with pytest.raises(type(error)):
        SentenceSplitter("en", failing).split(["One is here. Two is."])


def test_a_failure_of_the_library_is_told_and_costs_no_data_set(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    def failing(language: str, text: str) -> Sequence[str]:
        if "odd" in text:
            raise PanicException("index out of bounds")
        return sentencex.segment(language, text)

    monkeypatch.setattr(SentenceSplitter.__init__, "__defaults__", (failing,))
    prepared, dataset = make("Good one. Another.\n\nAn odd one. It fails.\n\nLast. Done.", split=ALL)
    assert dataset.split("train").examples == 6
    assert "the sentence splitter failed on 1 paragraph, split at full stops instead" in prepared.report.warnings[0]


@settings(deadline=None, max_examples=50)
@given(st.lists(st.sampled_from(["Hello there", "It was late", "So it was", "Was it"]), min_size=1, max_size=60))
def test_windows_change_nothing_where_no_quotation_crosses_them(parts: list[str]) -> None:
    text = ". ".join(parts) + "."
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "WINDOW", 64)
        patch.setattr(sentences, "HARD", -1)
        assert SentenceSplitter("en").split([text]) == one_by_one("en", [text])


@settings(deadline=None)
@given(st.lists(pieces, min_size=1, max_size=300).map("".join).map(str.strip).filter(bool))
def test_windows_lose_no_character(text: str) -> None:
    text = text.replace("\n", " ")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(sentences, "WINDOW", 32)
        patch.setattr(sentences, "HARD", -1)
        assert "".join("".join(SentenceSplitter("en").split([text])[0]).split()) == "".join(text.split())


def test_no_character_of_a_long_line_without_a_blank_is_looked_at_often() -> None:
    """Full stops, quotation marks and brackets everywhere: the library's time for it is that of its square."""
    looked_at: list[int] = []

    def counting(language: str, text: str) -> Sequence[str]:
        looked_at.append(len(text))
        return sentencex.segment(language, text)

    drawn = random.Random(1)
    text = "".join(drawn.choice("abcdefghij.,!?\"'()ABCDE") for _ in range(300_000))
    assert "".join(SentenceSplitter("en", counting).split([text])[0]) == text
    assert max(looked_at) <= 2 * sentences.WINDOW
    assert sum(looked_at) <= 2 * len(text)
    looked_at.clear()
    open_ended = "(" * 3000 + "." + ".a" * 3000 + "a" * 300_000
    assert "".join(SentenceSplitter("en", counting).split([open_ended])[0]) == open_ended
    assert sum(looked_at) <= 2 * len(open_ended)


# one text a line


TWEETS = [f'RT @user{i}: "this is tweet {i}, {"very " * (i % 13)}short' + ("!" if i % 3 else "") for i in range(2862)]


def test_one_text_a_line_is_recognised_and_told(make: Make) -> None:
    """A quotation mark that never closes stands in each of them: it swallows no line."""
    prepared, dataset = make("\n".join(TWEETS), split=ALL)
    assert prepared.report.warnings[0].endswith(
        "2,862 lines and no empty one: each line is read as a text of its own; `paragraphs: blank_line` reads them as "
        "one paragraph"
    )
    assert dataset.split("train").examples >= 2862
    assert prepared.report.longest < 40
    once = make("\n".join(TWEETS), split=ALL, unit=Unit.paragraph)[1]
    assert once.split("train").examples == 2862


def test_what_was_asked_for_is_done_and_its_lengths_told(make: Make) -> None:
    prepared, _ = make("\n".join(["never a full stop"] * 300), split=ALL, paragraphs=Paragraphs.blank_line)
    assert not any("no empty one" in warning for warning in prepared.report.warnings)
    assert any(
        "1 sentence of more than 1,000 tokens, the longest of 1,200: text" in warning
        for warning in prepared.report.warnings
    )
    assert make("\n".join(TWEETS), split=ALL, paragraphs=Paragraphs.line)[0].report.warnings == []


def test_wrapped_text_without_an_empty_line_stays_one_paragraph(make: Make) -> None:
    words = " ".join(f"word{i % 97} and then it went on" + ("." if i % 9 == 0 else "") for i in range(400)).split(" ")
    lines, line = [], ""
    for word in words:
        if len(line) + len(word) > 70:
            lines.append(line)
            line = ""
        line = f"{line} {word}".strip()
    prepared, dataset = make("\n".join(lines), split=ALL, unit=Unit.paragraph)
    assert "all about as long, they are read as one paragraph; `paragraphs: line`" in prepared.report.warnings[0]
    assert dataset.split("train").examples == 1


def test_a_text_with_empty_lines_is_named_as_it_was(make: Make) -> None:
    """Whether lines are texts is part of the name only where they are."""
    text = "\n\n".join("\n".join(TWEETS[i : i + 4]) for i in range(0, 400, 4))
    whole, lines = make(text, split=ALL), make(text.replace("\n\n", "\n"), split=ALL)
    assert not any("empty" in warning for warning in whole[0].report.warnings)
    assert any("400 lines and no empty one" in warning for warning in lines[0].report.warnings)


@pytest.mark.parametrize(("empty", "lines"), [(1, True), (3, True), (40, False)])
def test_a_few_empty_lines_among_many_make_no_paragraphs(make: Make, empty: int, lines: bool) -> None:
    every = 1000 // (empty + 1)
    text = "\n".join(tweet + ("\n" if i % every == every - 1 else "") for i, tweet in enumerate(TWEETS[:1000]))
    found = any("each line is read as a text" in warning for warning in make(text, split=ALL)[0].report.warnings)
    assert found is lines


def test_lists_are_told(make: Make) -> None:
    warnings = make("\n\n".join(["word", "other"] * 100), split=ALL)[0].report.warnings
    assert any("more than half of the sentence examples have one token or none" in warning for warning in warnings)


# WikiText's empty lines


WIKI = " \n = Title = \n \n First line , of words . \n Second one . \n \n"


def test_empty_lines_count_as_wikitext_counts_them(make: Make) -> None:
    """As the published counts are made: every line's words and one <eos>."""
    text = WIKI * 3000  # more than one block
    expected = sum(len(line.split()) + 1 for line in text.split("\n")[:-1])
    kept = make(text, split=ALL, splitter=Splitter.lines, tokenizer=Tokenizer.whitespace, keep_empty_lines=True)
    assert kept[0].manifest.splits["train"].tokens == expected
    assert kept[0].report.examples["train"] == text.count("\n")
    without = make(text, split=ALL, splitter=Splitter.lines, tokenizer=Tokenizer.whitespace)
    assert without[0].manifest.splits["train"].tokens == expected - 3 * 3000


@settings(deadline=None, max_examples=60)
@given(st.lists(st.sampled_from(["", " ", "a b", "c"]), max_size=30), st.booleans())
def test_empty_lines_by_an_independent_count(
    tmp_path_factory: pytest.TempPathFactory, lines: list[str], ended: bool
) -> None:
    folder = tmp_path_factory.mktemp("wiki")
    text = "\n".join([*lines, "end"]) + ("\n" if ended else "")
    (folder / "a.txt").write_text(text)
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_PIECE", 7)
        config = DatasetConfig(
            source="a.txt", split=ALL, splitter=Splitter.lines, tokenizer=Tokenizer.whitespace, keep_empty_lines=True
        )
        dataset = Dataset.open(prepare(config, folder / "made", name="x", base=folder).path)
    offsets = dataset.split("train").offsets.tolist()
    assert [b - a for a, b in pairwise(offsets)] == [len(line.split()) + 1 for line in [*lines, "end"]]
