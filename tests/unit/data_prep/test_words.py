"""Words, sentences and paragraphs: what goes in comes out readably, in any script."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep.config import DatasetConfig, Format, Inner, Level, Paragraphs, Splitter, Tokenizer, Unit
from terry.data_prep.errors import DataError
from terry.data_prep.lexicon import CharacterLexicon, Lexicon, WordLexicon
from terry.data_prep.segment import Segmenter
from terry.data_prep.tokens import MARKS, SPECIAL, detokenise_words, words
from terry.data_prep.vocabulary import Vocabulary


@pytest.mark.parametrize(
    ("text", "tokens"),
    [
        ("Don't stop, it's well-known.", ["Don't", "stop", ",", "it's", "well-known", "."]),
        (
            "It cost $3.50 (about 1,000 yen) at 10:30.",
            ["It", "cost", "$", "3.50", "(", "about", "1,000", "yen", ")", "at", "10:30", "."],
        ),
        ("In the U.S. e.g. here...", ["In", "the", "U.S.", "e.g.", "here", "..."]),
        ("See https://x.org/a?b=1, ok", ["See", "https://x.org/a?b=1", ",", "ok"]),
        (".2 points", [".2", "points"]),
        ("what?! no!!! a--b", ["what", "?", "!", "no", "!!!", "a", "--", "b"]),
        ("你好，世界。", ["你", "好", "，", "世", "界", "。"]),
        ("Γειά σου Κόσμε", ["Γειά", "σου", "Κόσμε"]),
        ("हिन्दी भाषा", ["हिन्दी", "भाषा"]),
        ("e\u0301te\u0301", ["e\u0301te\u0301"]),
        ("hi 👨‍👩‍👧👍🏽 🇬🇷🇨🇳 ❤️ 1️⃣", ["hi", "👨‍👩‍👧", "👍🏽", "🇬🇷", "🇨🇳", "❤️", "1️⃣"]),
        ("don’t “quote”", ["don’t", "“", "quote", "”"]),
        ("צה״ל col·lecció Ինչպե՞ս ٣٫٥", ["צה״ל", "col·lecció", "Ինչպե՞ս", "٣٫٥"]),
        (" \t\n ", []),
    ],
)
def test_words(text: str, tokens: list[str]) -> None:
    assert words(text) == tokens


def test_whitespace_tokens_are_left_alone() -> None:
    assert words("the <unk> said N% don't", Tokenizer.whitespace) == ["the", "<unk>", "said", "N%", "don't"]


@settings(deadline=None)  # files on a busy machine take their time
@given(st.text(max_size=200))
def test_no_character_is_lost(text: str) -> None:
    for tokenizer in Tokenizer:
        assert "".join("".join(words(text, tokenizer)).split()) == "".join(text.split()).translate(
            {0x1C: None, 0x1D: None, 0x1E: None, 0x1F: None}
        ) or any(c in text for c in "\x1c\x1d\x1e\x1f")


@pytest.mark.parametrize(
    "text",
    [
        "Don't stop, it's well-known (really) at 10:30.",
        'She said "I am here." Then he left; nothing else: no.',
        "It cost $3.50, 50% off!",
        "你好，世界。我们走吧！",
        "こんにちは、世界。",
        "Γειά σου Κόσμε. Τι κάνεις;",
        "Привет, мир! Как дела?",
        "हिन्दी भाषा, ठीक है?",
        "hi 👨‍👩‍👧 👍🏽 🇬🇷 ok",
        "cafe\u0301 naïve Åström",
        "“Curly” quotes (and ‘these’).",
        "สวัสดีครับ",
        "บ่อยๆ นี้",
        "مرحبا، كيف حالك؟ نعم؛ قال: «أنا هنا» ثم ذهب. ٥٠٪ فقط!",
        "یہ کیا ہے؟ یہ ٹھیک ہے۔",
        'سلام، "خوبی"؟ می\u200cخواهم!',
        "यह ठीक है। क्या? हाँ॥",
        "এটা ভালো। কেন?",
        'שלום, מה שלומך? צה״ל אמר "כן".',
        "Բարեւ։ Ինչպե՞ս ես։",
        "ሰላም። እንዴት ነህ፧ ጥሩ፣ አመሰግናለሁ፤",
        "དེ་རིང་། ང་",
        "សួស្តី។ អរគុណ៕",
        "မင်္ဂလာပါ။ ကောင်း၊",
        "ᠮᠣᠩᠭᠣᠯ᠂ ᠬᠡᠯᠡ᠃",
        "ܫܠܡܐ܀ ܐ܂",
        "你好，“世界”！他说：‘走’。",
        '他说："你好"。好',
        "「こんにちは」と言った…そうか。",
        "Ａ～Ｂ（テスト）＆％",
        "안녕하세요, 세계! 「책」을 읽다.",
        "Γειά σου· τι κάνεις;",
        "„Guten Tag“, sagte er. ‚Ja‘",
        "»Hallo«, sagte sie: »Wer?«",
        "«Bonjour», dit-il.",
        "said, 'We wish you well,' and left",
        "'Who's there?' he cried; 'come in!'",
        "\"'Well,' he said, 'go.'\" she wrote",
        "He said 'no'.",
        "'Tis so, 'twas in the '90s; show 'em rock 'n' roll",
        "the dogs' bones and the cat's, goin' to o' the",
        "write to jane.doe@mail.example.org or a@b.org, now",
        "the nor'-west coast and the Nor' West Passage; the rivals' way",
        "he said, 'the whole posse of 'em,' and at war 'twixt will and will not",
        "the U.S.S.R.'s economy and U.S.-Soviet talks; L1,000,000 a year",
        "*See the note on quoins.",
        "Up they tossed it.* So, in a gale, the shark,* too, fled.*",
        "of Enderby & Sons; a house",
        "501(c)(3) status, f(x) = y and the word(s)",
        "this is *word* here, **bold** it; 2 * 3",
        "&#128514; there &amp; then",
        "it came—and went--so",
        "C++ is fine",
        "¿Qué tal? ¡Muy bien! ₹500 ¥500 100‰",
    ],
)
def test_detokenised_as_it_was(text: str) -> None:
    assert detokenise_words(words(text)) == text


def test_boundaries_become_blanks_and_empty_lines() -> None:
    tokens = ["One", ".", "<sentence>", "Two", ".", "<paragraph>", '"', "Three", '"', "<story>", "Four", "<story>"]
    assert detokenise_words(tokens) == 'One. Two.\n\n"Three"\n\nFour'


@settings(deadline=None)
@given(st.text(max_size=200))
def test_detokenising_changes_nothing_but_blanks(text: str) -> None:
    tokens = words(text)
    assert "".join(detokenise_words(tokens).split()) == "".join("".join(tokens).split())


@pytest.mark.parametrize(
    ("tokens", "text"),
    [
        (["好", "。", "<sentence>", "走", "。", "<sentence>"], "好。走。"),
        (["ดี", "<sentence>", "ไป", "<sentence>"], "ดี ไป"),
        (["ठीक", "।", "<sentence>", "क्या", "?", "<sentence>"], "ठीक। क्या?"),
    ],
)
def test_sentences_stand_apart_as_their_script_has_it(tokens: list[str], text: str) -> None:
    assert detokenise_words(tokens) == text


SENTENCES = [
    ("Mr. Smith went to Washington. He was late.", 2),
    ("It cost $3.50. That is cheap.", 2),
    ("I live in the U.S. and I like it. Do you?", 2),
    ("What?! No way. Really?", 3),
    ('"Stop!" he cried. She ran.', 2),
    ('He said "I am done." Then he left.', 2),
    ("See e.g. the manual, p. 12, for more. It helps.", 2),
    ("I waited... and waited. Nothing came.", 2),
    ("so... yeah. i guess so. whatever", 3),
    ("Dr. A. B. Jones Jr. wrote it. It sold well.", 2),
    ("Check www.example.com. It is good.", 2),
    ("I got 5 vs. 3. Not bad!", 2),
    ("We met at 5 p.m. Then we ate.", 2),
    ("First line!!! Second one?? Third.", 3),
    ("Версия 2.0 вышла. Она лучше.", 2),
    ("你好。世界！再见。", 3),
]


@pytest.mark.parametrize(("text", "count"), SENTENCES)
def test_sentences(text: str, count: int) -> None:
    segmenter = Segmenter.of(DatasetConfig(source="x"), Format.csv)
    marked = segmenter.mark(text, last=True)
    assert marked.examples == count == marked.text.count(MARKS[1])
    assert marked.text.replace(MARKS[1], "").replace(" ", "") == text.replace(" ", "")


TEXT = "A one. A two.\nB one.\n\n\n  C one.\r\nD one. D two."


@pytest.mark.parametrize(
    ("settings", "layout", "expected"),
    [
        ({}, Format.csv, "A one.1|A two.1|B one.1|C one.1|D one.1|D two.1|"),
        ({"splitter": Splitter.lines}, Format.csv, "A one. A two.1|B one.1|C one.1|D one. D two.1|"),
        ({"unit": Unit.paragraph}, Format.csv, "A one.1A two.2|B one.2|C one.2|D one.1D two.2|"),
        (
            {"unit": Unit.paragraph, "inner_boundaries": Inner.none},
            Format.text,
            "A one. A two.\nB one.2|C one.\nD one. D two.2|",
        ),
        (
            {"unit": Unit.paragraph, "paragraphs": Paragraphs.line, "inner_boundaries": Inner.paragraph},
            Format.text,
            "A one. A two.2|B one.2|C one.2|D one. D two.2|",
        ),
        ({"unit": Unit.story}, Format.csv, "A one.1A two.2B one.2C one.2D one.1D two.3|"),
        (
            {"unit": Unit.story, "inner_boundaries": Inner.paragraph},
            Format.text,
            "A one. A two.\nB one.2C one.\nD one. D two.3|",
        ),
        (
            {"unit": Unit.story, "level": Level.character},
            Format.text,
            "A one. A two.\nB one.\n\n\n  C one.\nD one. D two.3|",
        ),
    ],
)
def test_units(settings: dict[str, object], layout: Format, expected: str) -> None:
    config = DatasetConfig(source="x", **settings)  # type: ignore[arg-type]
    marked = Segmenter.of(config, layout).mark(TEXT, last=True)
    end = str({Unit.sentence: 1, Unit.paragraph: 2, Unit.story: 3}[config.unit])
    readable = "".join(str(MARKS.index(c)) if c in MARKS else c for c in marked.text)
    assert readable.replace(end, end + "|") == expected
    assert marked.examples == expected.count("|")


def test_blocks_of_a_story_join() -> None:
    segmenter = Segmenter.of(DatasetConfig(source="x", unit=Unit.story), Format.text)
    parts = [segmenter.mark("A one. A two.\n\n", last=False), segmenter.mark("B one.", last=True)]
    assert [part.examples for part in parts] == [0, 1]
    assert "".join(part.text for part in parts) == segmenter.mark("A one. A two.\n\nB one.", last=True).text


def decoded(lexicon: Lexicon, ids: np.ndarray) -> list[str]:  # type: ignore[type-arg]
    names = dict(enumerate(MARKS)) | {i: token for token, same in lexicon.groups() for i in same}
    return [names[int(i)] for i in ids]


batches_of_words = st.lists(st.lists(st.sampled_from("abcdefgh") | st.text("xyzéß\x01\x02", min_size=1, max_size=4)))


@settings(deadline=None)  # files on a busy machine take their time
@given(batches_of_words, st.integers(1, 5))
def test_lexicon_in_bounded_memory_equals_one_in_memory(
    tmp_path_factory: pytest.TempPathFactory, batches: list[list[str]], capacity: int
) -> None:
    folder = tmp_path_factory.mktemp("runs")
    small = WordLexicon(Tokenizer.words, folder, lowercase=False, hashing=True, capacity=capacity)
    large = WordLexicon(Tokenizer.words, folder, lowercase=False, hashing=True)
    texts = [" ".join(batch) for batch in batches]
    few = [small.encode([text]) for text in texts]
    many = [large.encode([text]) for text in texts]
    assert (
        [token for token, _ in small.groups()]
        == [token for token, _ in large.groups()]
        == sorted({token for text in texts for token in words(text)} - set(MARKS))
    )
    for text, a, b in zip(texts, few, many, strict=True):
        assert decoded(small, a) == decoded(large, b) == words(text)
        assert (small.hashes()[a] == large.hashes()[b]).all()
    same = [i for _, ids in small.groups() for i in ids]
    assert small.names(set(same[::2])) == {i: token for token, ids in small.groups() for i in ids if i in same[::2]}
    assert sorted(same) == list(range(len(MARKS), small.size))


def test_characters_are_their_own_ids() -> None:
    lexicon = CharacterLexicon(lowercase=True)
    ids = lexicon.encode(["Aé", "😀\x02"])
    assert decoded(lexicon, ids) == ["a", "é", "😀", "\x02"]


def vocabulary(*tokens: str, level: Level = Level.word, tokenizer: Tokenizer = Tokenizer.words) -> Vocabulary:
    every = SPECIAL + tokens
    return Vocabulary(
        tokens=every, counts=(0,) * len(every), level=level, tokenizer=tokenizer, lowercase=True, clean=()
    )


def test_vocabulary_encodes_and_decodes(tmp_path: Path) -> None:
    known = vocabulary("the", "cat", ".", "<", "story", ">")
    assert known.encode("The cat sat.") == [4, 5, 0, 6]
    assert known.decode([4, 5, 0, 6, 1]) == ["the", "cat", "<unk>", ".", "<sentence>"]
    assert known.detokenise(np.array([4, 5, 6, 1, 4, 0, 6], dtype=np.uint16)) == "the cat. the <unk>."
    assert [known.boundary(unit) for unit in Unit] == [1, 2, 3]
    again = Vocabulary.from_json(known.to_json())
    assert again == known
    assert again.sha256() == known.sha256() != vocabulary("the").sha256()


def test_spelling_out_a_special_token_is_not_that_token() -> None:
    spaced = vocabulary("a", tokenizer=Tokenizer.whitespace)
    assert spaced.encode("a <story> <unk>") == [4, 0, 0]


def test_characters_detokenise_exactly() -> None:
    letters = vocabulary(*"ab \n", level=Level.character)
    assert letters.detokenise(letters.encode("ab a\nb")) == "ab a\nb"


@pytest.mark.parametrize(
    ("text", "words_"),
    [
        ("{}", "not a vocabulary"),
        ("nonsense", "not a vocabulary"),
        (vocabulary("a").to_json().replace('"version": 1', '"version": 9'), "version 9"),
        (vocabulary("a").to_json().replace('"a"', '"<unk>"'), "same token twice"),
        (vocabulary("a").to_json().replace('"<unk>"', '"unk"'), "must begin with"),
    ],
)
def test_bad_vocabularies_are_refused(text: str, words_: str) -> None:
    with pytest.raises(DataError, match=words_):
        Vocabulary.from_json(text)
