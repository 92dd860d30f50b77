"""From text to a data set: figures, splits, limits, vocabularies, caching, publishing."""

from __future__ import annotations

import errno
import gzip
import hashlib
import json
import os
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from rich.console import Console

from terry.data_prep import collect_tokens as collect
from terry.data_prep import embeddings, publish
from terry.data_prep import filter_rows as select
from terry.data_prep.config import (
    Choose,
    Clean,
    DatasetConfig,
    Deduplicate,
    Level,
    Ragged,
    SplitBy,
    SplitConfig,
    Splitter,
    Tokenizer,
    Unit,
    validate,
)
from terry.data_prep.dataset import Dataset, list_datasets
from terry.data_prep.errors import DataError, PreparationStoppedError
from terry.data_prep.prepare import PrepareProgress, load_report, prepare
from terry.data_prep.report import render_report
from tests.unit.data_prep.conftest import Make

ALL = SplitConfig(train=1, valid=0, test=0)
LINES = {"splitter": Splitter.lines, "tokenizer": Tokenizer.whitespace}


def examples(dataset: Dataset, split: str = "train") -> list[str]:
    """Examples as text, boundary tokens included."""
    part = dataset.split(split)
    return [" ".join(dataset.vocabulary.decode(part.example(i))) for i in range(part.examples)]


def csv_of(texts: list[str]) -> str:
    return "body\n" + "".join('"' + text.replace('"', '""') + '"\n' for text in texts)


def test_a_small_text_whole(make: Make) -> None:
    text = "The cat sat. The dog ran!\n\nA cat? Yes."
    prepared, dataset = make(text, split=ALL, vocabulary_size=8)
    assert dataset.vocabulary.tokens == ("<unk>", "<sentence>", "<paragraph>", "<story>", ".", "cat", "the", "!")
    assert dataset.vocabulary.counts == (0, 0, 0, 0, 2, 2, 2, 1)
    assert examples(dataset) == [
        "the cat <unk> . <sentence>",
        "the <unk> <unk> ! <sentence>",
        "<unk> cat <unk> <sentence>",
        "<unk> . <sentence>",
    ]
    assert dataset.split("train").tokens.dtype == np.uint16
    assert dataset.split("valid").examples == 0
    manifest, report = dataset.manifest, prepared.report
    assert (manifest.splits["train"].words, manifest.splits["train"].unknown) == (13, 6)
    assert manifest.coverage == pytest.approx(7 / 13)
    assert (report.stories, report.distinct, report.examples_found) == (1, 10, 4)
    assert (report.median_length, report.longest) == (3, 4)
    assert report.mean_length == pytest.approx(13 / 4)
    assert [(b.low, b.high, b.examples) for b in report.histogram] == [(2, 3, 2), (4, 4, 2)]
    assert report.samples[0].before == text
    assert report.samples[0].after.startswith("the cat <unk>. the <unk> <unk>! <unk> cat <unk>")


def test_units_and_levels(make: Make) -> None:
    text = "One. Two.\n\nThree."
    assert examples(make(text, unit=Unit.paragraph, split=ALL)[1]) == [
        "one . <sentence> two . <paragraph>",
        "three . <paragraph>",
    ]
    assert examples(make(text, unit=Unit.story, split=ALL)[1]) == ["one . <sentence> two . <paragraph> three . <story>"]
    letters = make(text, unit=Unit.story, level=Level.character, split=ALL)[1]
    assert letters.vocabulary.detokenise(letters.split("train").tokens) == text
    assert letters.vocabulary.tokens[4:] == tuple(
        c for c, _ in sorted(Counter(text).items(), key=lambda p: (-p[1], p[0]))
    )


def test_long_stories_flushed_in_pieces_are_the_same(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    text = "\n\n".join(f"Word{i} is here. It was {i} before." for i in range(200))
    settings: dict[str, Any] = {"unit": Unit.story, "deduplicate": Deduplicate.example, "split": ALL}
    whole = make(csv_of([text, "short one", text]), suffix=".csv", name="whole", **settings)[1]
    monkeypatch.setattr(collect, "BATCH", 50)
    pieces = make(csv_of([text, "short one", text]), suffix=".csv", name="pieces", **settings)[1]
    assert examples(whole) == examples(pieces)
    assert whole.split("train").examples == 2


def test_found_again_unless_something_changed(make: Make, tmp_path: Path) -> None:
    first = make("Some text here.")[0]
    again = make("Some text here.")[0]
    assert (first.built, again.built, again.path) == (True, False, first.path)
    assert again.report == first.report == load_report(first.path)
    assert first.path.name == f"sample-{first.manifest.hash[:12]}"
    other = [
        make("Some text here.", seed=2)[0],
        make("Other text here.")[0],
        make("Some text here.", lowercase=False)[0],
    ]
    assert len({p.path for p in [first, *other]}) == 4
    moved = tmp_path / "elsewhere.txt"
    moved.write_text("Some text here.")
    assert make(source=str(moved))[0].path == first.path
    assert len([d for d in list_datasets(tmp_path / "datasets") if isinstance(d, Dataset)]) == 4


def test_split_by_story_is_stable_when_data_grows(make: Make) -> None:
    stories = [f"story number {i} is here" for i in range(200)]
    split = SplitConfig(train=0.6, valid=0.2, test=0.2)
    settings: dict[str, Any] = {"split": split, "level": Level.character}
    few = make(csv_of(stories[:100]), suffix=".csv", name="few", **settings)[1]
    many = make(csv_of(stories[::-1]), suffix=".csv", name="many", **settings)[1]
    sizes = []
    for split in ("train", "valid", "test"):
        assert set(examples(few, split)) <= set(examples(many, split))
        sizes.append(many.split(split).examples)
    assert sum(sizes) == 200
    assert 90 <= sizes[0] <= 150
    other = make(csv_of(stories), suffix=".csv", name="other", seed=2, **settings)[1]
    assert set(examples(other, "test")) != set(examples(many, "test"))


def test_split_by_order_cuts_a_single_story(make: Make) -> None:
    text = "".join(chr(97 + i % 26) for i in range(999))
    dataset = make(text, unit=Unit.story, level=Level.character, split=SplitConfig(train=0.8, valid=0.1, test=0.1))[1]
    parts = ["".join(dataset.vocabulary.decode(dataset.split(s).tokens)) for s in ("train", "valid", "test")]
    assert "".join(parts) == text + "<story>"
    assert [len(dataset.split(s).tokens) for s in ("train", "valid", "test")] == [800, 100, 100]


@settings(deadline=None, max_examples=30)  # files on a busy machine take their time
@given(
    lengths=st.lists(st.integers(1, 9), min_size=1, max_size=30),
    shares=st.tuples(st.integers(1, 8), st.integers(0, 4), st.integers(0, 4)),
    chunk=st.integers(1, 7),
)
def test_split_by_order_keeps_everything_in_order(
    tmp_path_factory: pytest.TempPathFactory, lengths: list[int], shares: tuple[int, int, int], chunk: int
) -> None:
    folder = tmp_path_factory.mktemp("order")
    words = [f"w{i}" for i in range(sum(lengths))]
    lines, begin = [], 0
    for length in lengths:
        lines.append(" ".join(words[begin : begin + length]))
        begin += length
    (folder / "text.txt").write_text("\n".join(lines))
    total = sum(shares)
    by = SplitBy.order if total > shares[0] else SplitBy.auto  # with nothing to split off, `by` does nothing
    split = SplitConfig(train=shares[0] / total, valid=shares[1] / total, test=shares[2] / total, by=by)
    config = DatasetConfig(source="text.txt", split=split, **LINES)  # type: ignore[arg-type]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(select.read_chunks, "__defaults__", (chunk,))
        patch.setattr(select.read_chunks, "__kwdefaults__", {"count": chunk})
        dataset = Dataset.open(prepare(config, folder / "datasets", name="x", base=folder).path)
    read = [words for name in ("train", "valid", "test") for words in examples(dataset, name)]
    assert [len(line.split()) - 1 for line in read] == lengths
    assert dataset.split("train").examples >= 1


def test_given_splits(make: Make, tmp_path: Path) -> None:
    (tmp_path / "v.txt").write_text("valid one\nnew words")
    (tmp_path / "t.txt").write_text("test one")
    dataset = make("train one\ntrain two", split=ALL, valid_source="v.txt", test_source="t.txt", **LINES)[1]
    assert examples(dataset) == ["train one <sentence>", "train two <sentence>"]
    assert examples(dataset, "valid") == ["<unk> one <sentence>", "<unk> <unk> <sentence>"]
    assert examples(dataset, "test") == ["<unk> one <sentence>"]


def test_limits_and_repetitions(make: Make) -> None:
    lines = ["a", "a b", "a b c", "a b c d", "A B C", "x y z"]
    text = "\n".join(lines)
    kept = make(text, split=ALL, min_tokens=2, max_tokens=3, **LINES)
    assert examples(kept[1]) == [f"{line} <sentence>" for line in ("a b", "a b c", "a b c", "x y z")]
    assert (kept[0].report.dropped["too_short"], kept[0].report.dropped["too_long"]) == (1, 1)
    once = make(text, split=ALL, min_tokens=2, max_tokens=3, deduplicate=Deduplicate.example, **LINES)
    assert examples(once[1]) == [f"{line} <sentence>" for line in ("a b", "a b c", "x y z")]
    assert once[0].report.dropped["duplicate_example"] == 1
    stories = make(csv_of(["b a", "a b", "b a", "[deleted]"]), suffix=".csv", split=ALL, deduplicate=Deduplicate.story)
    assert examples(stories[1]) == ["b a <sentence>", "a b <sentence>"]
    assert (stories[0].report.dropped["duplicate_story"], stories[0].report.empty_stories) == (1, 1)


def test_max_examples_first_and_random(make: Make) -> None:
    lines = [f"line {i}" for i in range(500)]
    first = make("\n".join(lines), split=ALL, max_examples=7, **LINES)
    assert examples(first[1]) == [f"{line} <sentence>" for line in lines[:7]]
    some = [
        examples(make("\n".join(lines), split=ALL, max_examples=7, choose=Choose.random, seed=seed, **LINES)[1])
        for seed in (1, 2)
    ]
    assert len(some[0]) == len(some[1]) == 7
    assert some[0] != some[1]
    assert some[0] == [f"{line} <sentence>" for line in lines if f"{line} <sentence>" in some[0]]
    every = make("\n".join(lines), split=ALL, max_examples=900, choose=Choose.random, **LINES)[1]
    assert len(examples(every)) == 500


def test_reading_ends_early_when_enough_is_read(make: Make, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(collect, "BATCH", 100)
    prepared, dataset = make(csv_of([f"row {i}" for i in range(5000)]), suffix=".csv", split=ALL, max_examples=20)
    assert examples(dataset) == [f"row {i} <sentence>" for i in range(20)]
    assert prepared.report.files[0].rows < 100
    assert any("ended early" in warning for warning in prepared.report.warnings)


MIXED = (
    'id,body\n1,"The &quot;cat&quot; sat.\nIt cost $3.50, didn\'t it?"\n2,"stray, quote\n3,Γειά σου Κόσμε. Τι κάνεις;\n'
    '4,"你好，世界。我们走吧！ 👨‍👩‍👧 👍🏽 🇬🇷"\n5,[deleted]\n6,e\u0301te\u0301... and so on; see https://x.org/a?b=1.\n7,short,row\n'
)


@pytest.mark.parametrize(
    ("settings", "expected"),
    [
        ({}, "5a5cefa41b3bdda8"),
        ({"unit": Unit.story, "clean": list(Clean)}, "4a3d760aa194b8c6"),
        ({"unit": Unit.paragraph, "level": Level.character}, "3bd32cf6d3359129"),
    ],
)
def test_the_same_text_gives_the_same_tokens_for_ever(make: Make, settings: dict[str, Any], expected: str) -> None:
    """If this fails, and it was meant: raise RESULT_VERSION in manifest.py, and put the new values here."""
    dataset = make(MIXED, suffix=".csv", split=ALL, **settings)[1]
    found = hashlib.sha256(dataset.manifest.vocabulary_sha256.encode() + dataset.split("train").tokens.tobytes())
    assert found.hexdigest()[:16] == expected


def test_words_that_spell_special_tokens_are_unknown(make: Make) -> None:
    dataset = make("the <unk> said <story> here", split=ALL, **LINES)[1]
    assert examples(dataset) == ["the <unk> said <unk> here <sentence>"]
    assert dataset.manifest.splits["train"].unknown == 2


@pytest.mark.parametrize(
    "text",
    [
        "Γειά σου Κόσμε. Τι κάνεις;",
        "你好，世界。我们走吧！",
        "हिन्दी भाषा, ठीक है?",
        "Emoji 👨‍👩‍👧 👍🏽 🇬🇷 ❤️ survive.",
        "Cafe\u0301 and naïve A\u030angstro\u0308m.",
        "Привет, мир! (Да.)",
    ],
)
def test_other_scripts_survive(make: Make, text: str) -> None:
    import unicodedata

    dataset = make(text, unit=Unit.story, lowercase=False, split=ALL)[1]
    assert dataset.vocabulary.detokenise(dataset.split("train").tokens) == unicodedata.normalize("NFC", text)
    letters = make(text, unit=Unit.story, level=Level.character, clean=[], split=ALL)[1]
    assert letters.vocabulary.detokenise(letters.split("train").tokens) == text


def test_zero_bytes_and_bad_bytes_are_counted(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "bad.txt"
    path.write_bytes("Ünïcödé and a\0b\x01c\n".encode() * 3 + b"stray \xff byte")
    prepared, dataset = make(source=str(path), split=ALL, **LINES)
    assert (prepared.report.marks_removed, prepared.report.files[0].replaced_bytes) == (6, 1)
    assert examples(dataset)[0] == "ünïcödé and abc <sentence>"
    assert any("1 byte could not be read as utf-8" in warning for warning in prepared.report.warnings)


def test_vocabulary_from_another_data_set(make: Make, tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("cat dog cat")
    (tmp_path / "b.txt").write_text("dog bird dog")
    a = DatasetConfig(source="a.txt", split=ALL)
    b = DatasetConfig(source="b.txt", split=ALL, vocabulary_from="first")
    root = tmp_path / "datasets"
    by_name = prepare(b, root, name="second", base=tmp_path, others={"first": a, "second": b})
    dataset = Dataset.open(by_name.path)
    assert dataset.vocabulary.tokens[4:] == ("cat", "dog")
    assert dataset.vocabulary.counts[4:] == (0, 2)
    assert examples(dataset) == ["dog <unk> dog <sentence>"]
    folder = prepare(a, root, name="first", base=tmp_path)
    assert not folder.built
    by_path = DatasetConfig(source="b.txt", split=ALL, vocabulary_from=str(folder.path))
    assert prepare(by_path, root, name="second", base=tmp_path).path == by_name.path
    by_listed_name = DatasetConfig(source="b.txt", split=ALL, vocabulary_from=folder.path.name)
    assert prepare(by_listed_name, root, name="second", base=tmp_path).path == by_name.path
    for bad, words in (
        ("datasets", "not a prepared data set"),
        ("nobody", "no data set is called 'nobody'"),
        ("second", "itself"),
    ):
        config = DatasetConfig(source="b.txt", split=ALL, vocabulary_from=bad)
        with pytest.raises(DataError, match=words):
            prepare(config, root, name="second", base=tmp_path, others={"first": a})
    cased = DatasetConfig(source="b.txt", split=ALL, vocabulary_from="first", lowercase=False)
    with pytest.raises(DataError, match="make them the same"):
        prepare(cased, root, name="second", base=tmp_path, others={"first": a})


def vectors(kind: str) -> bytes:
    rows = {"Cat": [9, 9], "cat": [1, 2], "Dog": [3, 4.5], "zebra": [7, 7], "a b": [0, 1]}
    if kind == "glove":
        return "".join(f"{w} {v[0]} {v[1]}\n" for w, v in rows.items()).encode()
    head = f"{len(rows)} 2\n".encode()
    if kind == "text":
        return head + vectors("glove")
    return head + b"".join(w.encode() + b" " + np.array(v, "<f4").tobytes() + b"\n" for w, v in rows.items())


@pytest.mark.parametrize("kind", ["glove", "text", "binary"])
def test_pre_trained_vectors(make: Make, tmp_path: Path, kind: str) -> None:
    (tmp_path / "vectors").write_bytes(vectors(kind))
    prepared, dataset = make("cat dog bird cat", split=ALL, embeddings="vectors")
    found = dataset.embeddings()
    assert found is not None
    assert found.shape == (7, 2)
    assert dataset.vocabulary.tokens[4:] == ("cat", "bird", "dog")
    assert found[4:].tolist() == [[1, 2], [0, 0], [3, 4.5]]
    assert prepared.report.embedding_rate == dataset.manifest.embedding_rate == pytest.approx(2 / 3)


def test_many_vectors_are_matched_in_pieces_told_and_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """A binary file much larger than what is read at a time, packed and not."""
    monkeypatch.setattr(embeddings, "_PIECE", 100)
    values = np.arange(9000 * 3, dtype="<f4").reshape(-1, 3)
    content = b"9000 3\n" + b"".join(f"w{i} ".encode() + row.tobytes() for i, row in enumerate(values))
    (tmp_path / "plain.bin").write_bytes(content)
    (tmp_path / "packed.bin.gz").write_bytes(gzip.compress(content))
    (tmp_path / "a.txt").write_text("w8999 w0 none w31")
    for name in ("plain.bin", "packed.bin.gz"):
        told: list[PrepareProgress] = []
        config = DatasetConfig(source="a.txt", split=ALL, embeddings=name)
        prepared = prepare(config, tmp_path / "made", name=name.split(".")[0], base=tmp_path, progress=told.append)
        dataset = Dataset.open(prepared.path)
        found = dataset.embeddings()
        assert found is not None
        rows = dict(zip(dataset.vocabulary.tokens, found.tolist(), strict=True))
        expected = {"w8999": values[8999], "w0": values[0], "w31": values[31], "none": np.zeros(3)}
        assert {word: rows[word] for word in expected} == {word: row.tolist() for word, row in expected.items()}
        assert (
            len([p for p in told if p.phase == "matching vectors" and p.total == (tmp_path / name).stat().st_size]) > 1
        )
        stop = iter([False] * (len(told) - 1) + [True])
        with pytest.raises(PreparationStoppedError, match="matching vectors"):
            prepare(config, tmp_path / "stopped", name="x", base=tmp_path, should_stop=lambda it=stop: next(it))  # type: ignore[misc]
        assert list((tmp_path / "stopped").iterdir()) == []


def test_a_source_that_changes_while_it_is_read_is_refused(tmp_path: Path) -> None:
    """Of the same size, too: the folder's name would promise what is not in it."""
    (tmp_path / "a.txt").write_text("first words here")

    def change(progress: PrepareProgress) -> None:
        if progress.phase == "reading":
            (tmp_path / "a.txt").write_text("other words here")

    with pytest.raises(DataError, match=r"a\.txt changed while it was read"):
        prepare(DatasetConfig(source="a.txt"), tmp_path / "root", name="x", base=tmp_path, progress=change)
    assert list((tmp_path / "root").iterdir()) == []


@pytest.mark.parametrize(
    "content", [b"", b"one\n", b"a 1 2\nb 1\n", b"a 1 x\n", b"a 1 nan\n", b"2 2\n" + vectors("binary")[4:20]]
)
def test_bad_vectors_are_refused(make: Make, tmp_path: Path, content: bytes) -> None:
    (tmp_path / "vectors").write_bytes(content)
    with pytest.raises(DataError, match="vector"):
        make("a b c cat", split=ALL, embeddings="vectors")
    assert list((tmp_path / "datasets").iterdir()) == []


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        ({"source": None}, "source must be a path"),
        ({"source": 3}, "source must be a path"),
        ({"delimiter": "ab"}, "delimiter must be one character"),
        ({"quote": ""}, "quote must be one character or none"),
        ({"encoding": "utf-9"}, "encoding 'utf-9' is not known"),
        ({"language": "klingon"}, "language must be a code such as en, de or zh, not 'klingon'"),
        ({"min_tokens": 0}, "min_tokens must be at least 1"),
        ({"min_tokens": 5, "max_tokens": 3}, "less than min_tokens"),
        ({"vocabulary_size": 4}, "vocabulary_size must be"),
        ({"split": SplitConfig(train=0.9, valid=0.9, test=0)}, "add up to 1"),
        ({"split": SplitConfig(train=0, valid=1, test=0)}, "nothing to train on"),
        ({"valid_source": "v.txt"}, r"set split.valid to 0"),
        ({"vocabulary_from": "x", "vocabulary_size": 100}, "leave out vocabulary_size"),
        ({"level": Level.character, "embeddings": "x"}, "cannot be used with level: character"),
    ],
)
def test_bad_settings_are_refused(settings: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        validate(DatasetConfig(**{"source": "x.txt", **settings}))


@pytest.mark.parametrize("name", ["", "../up", "a/b", ".hidden", "x" * 65, "a b"])
def test_bad_names_are_refused(tmp_path: Path, name: str) -> None:
    with pytest.raises(DataError, match="cannot name a data set"):
        prepare(DatasetConfig(source="x"), tmp_path, name=name, base=tmp_path)


def test_nothing_left_says_why(make: Make) -> None:
    with pytest.raises(DataError, match=r"nothing is left to train on: .* 2 too short"):
        make("a\nb", min_tokens=3, **LINES)


def test_damage_is_noticed(make: Make) -> None:
    prepared, dataset = make("some words here")
    path = prepared.path / "train.tokens.npy"
    content = path.read_bytes()
    path.write_bytes(content[:-1] + bytes([content[-1] ^ 1]))
    Dataset.open(prepared.path)
    with pytest.raises(DataError, match=r"content of train\.tokens\.npy has changed"):
        dataset.verify()
    path.write_bytes(content[:-1])
    with pytest.raises(DataError, match=r"train\.tokens\.npy has \d+ bytes, not \d+; move the folder away"):
        Dataset.open(prepared.path)
    with pytest.raises(DataError, match="damaged"):
        make("some words here")
    assert isinstance(list_datasets(prepared.path.parent)[0], DataError)
    (prepared.path / "manifest.json").write_text("{")
    with pytest.raises(DataError, match="cannot be understood"):
        Dataset.open(prepared.path)


def test_stopping_leaves_nothing(tmp_path: Path) -> None:
    (tmp_path / "a.txt").write_text("word " * 1000)
    config = DatasetConfig(source="a.txt")
    phases: list[str] = []

    def count(progress: PrepareProgress) -> None:
        phases.append(progress.phase)
        assert 0 <= progress.done <= progress.total

    prepare(config, tmp_path / "whole", name="x", base=tmp_path, progress=count)
    assert list(dict.fromkeys(phases)) == ["hashing", "reading", "counting", "writing"]
    for stop_at in range(len(phases)):
        answers = iter([False] * stop_at + [True])
        root = tmp_path / f"root-{stop_at}"
        with pytest.raises(PreparationStoppedError):
            prepare(config, root, name="x", base=tmp_path, should_stop=lambda it=answers: next(it))  # type: ignore[misc]
        assert not root.exists() or list(root.iterdir()) == []


#: Says that everything is imported, waits to be told, and then prepares.
ONE_OF_MANY = """
import sys
from pathlib import Path
from terry.data_prep.config import DatasetConfig
from terry.data_prep.prepare import prepare

root = Path(sys.argv[1])
print("ready", flush=True)
sys.stdin.readline()
prepared = prepare(DatasetConfig(source="a.txt"), root / "datasets", name="x", base=root)
print(prepared.built, prepared.path.name)
"""


def test_many_at_once_build_once(tmp_path: Path) -> None:
    """Processes of their own, as polars' threads must not be forked; four, as each takes a second to start."""
    (tmp_path / "a.txt").write_text("Some words in a row. " * 20_000)
    command = [sys.executable, "-c", ONE_OF_MANY, str(tmp_path)]
    pipe = subprocess.PIPE
    processes = [subprocess.Popen(command, stdin=pipe, stdout=pipe, text=True) for _ in range(4)]
    for process in processes:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
    for process in processes:
        assert process.stdin is not None
        process.stdin.write("go\n")
        process.stdin.flush()
    found = [process.communicate(timeout=60)[0].split() for process in processes]
    assert sorted(built for built, _ in found) == ["False"] * 3 + ["True"]
    assert len({name for _, name in found}) == 1
    assert [p.name for p in (tmp_path / "datasets").iterdir()] == [found[0][1]]


def test_a_full_disk_is_an_error_that_says_where(tmp_path: Path) -> None:
    """By the limit on the size of a file, which fails like a full disk; nothing is left of the attempt."""
    (tmp_path / "a.txt").write_text("Some words in a row, and then others. " * 20_000)
    code = (
        "import resource, signal; signal.signal(signal.SIGXFSZ, signal.SIG_IGN);"
        "import sys; from pathlib import Path;"
        "from terry.data_prep.config import DatasetConfig; from terry.data_prep.prepare import prepare;"
        "root = Path(sys.argv[1]); resource.setrlimit(resource.RLIMIT_FSIZE, (int(sys.argv[2]),) * 2)\n"
        "try: prepare(DatasetConfig(source='a.txt'), root / 'datasets', name='x', base=root)\n"
        "except OSError as error: print(error.errno, error.filename)"
    )
    for limit in (100_000, 300_000):
        command = [sys.executable, "-c", code, str(tmp_path), str(limit)]
        said = subprocess.run(command, capture_output=True, text=True, check=True).stdout.split()
        assert said == [str(errno.EFBIG), str(tmp_path / "datasets")]
        assert list((tmp_path / "datasets").iterdir()) == []


def test_without_the_lock_the_rename_decides(tmp_path: Path) -> None:
    """Two machines that build at once: the second to finish drops its own."""
    with publish.building(tmp_path, "x-1") as first, publish.building(tmp_path, "x-1") as second:
        for folder in (first, second):
            (folder / "file").write_text(folder.name)
        assert publish.publish(second, tmp_path / "x-1")
        assert not publish.publish(first, tmp_path / "x-1")
        winner = second.name
    assert (tmp_path / "x-1" / "file").read_text() == winner
    assert [p.name for p in tmp_path.iterdir()] == ["x-1"]


def test_only_what_is_surely_dead_is_removed(tmp_path: Path) -> None:
    with publish.building(tmp_path, "mine") as mine:
        machine, boot, space, _, start = mine.name.split("~")[1].split("-")
        child = subprocess.Popen([sys.executable, "-c", ""])
        child.wait()
        owners = {
            "gone": f"{machine}-{boot}-{space}-{child.pid}-123",
            "another-process-with-my-number": f"{machine}-{boot}-{space}-{os.getpid()}-1{start}",
            "before-the-reboot": f"{machine}-otherboot-{space}-{os.getpid()}-{start}",
            "other-machine": f"elsewhere-{boot}-{space}-{child.pid}-123",
            "other-container": f"{machine}-{boot}-otherspace-{child.pid}-123",
            "odd": "what",
        }
        for name, owner in owners.items():
            (tmp_path / f".building-{name}~{owner}~00").mkdir()
        removed = {name.removeprefix(".building-").split("~")[0] for name in publish.remove_stale(tmp_path)}
        assert removed == {"gone", "another-process-with-my-number", "before-the-reboot"}
        assert mine.is_dir()
    assert {p.name.removeprefix(".building-").split("~")[0] for p in tmp_path.iterdir()} == {
        "other-machine",
        "other-container",
        "odd",
    }


def test_report_can_be_shown_in_any_text(make: Make) -> None:
    prepared, _ = make(csv_of(["[bold]markup[/] here", "x,y"]) + '"cut', suffix=".csv", split=ALL)
    console = Console(width=120, file=open(os.devnull, "w"), record=True)  # noqa: SIM115, PTH123
    console.print(render_report(prepared.report))
    shown = console.export_text()
    console.file.close()
    assert "[bold]markup[/] here" in shown
    assert "never closed" in shown
    assert "split is empty" not in shown  # as was asked for


def test_warnings_tell_what_to_look_at(make: Make, tmp_path: Path) -> None:
    path = tmp_path / "old.csv"
    path.write_bytes("id,body\n1,café\n2\n3,naïve,7\n".encode("cp1252"))
    split = SplitConfig(train=0.9, valid=0.1, test=0)
    warnings = make(source=str(path), ragged=Ragged.keep, split=split)[0].report.warnings
    assert warnings == [
        f"{path}: 2 of 3 rows did not fit and were used as far as they go; "
        "the first: line 3: 1 field, the first row has 2",
        f"{path} is not UTF-8; cp1252 is a guess: give its `encoding` if the text looks wrong",
        "the valid split is empty, though it should not be: there is too little text",
    ]
    asked = make(source=str(path), encoding="latin-1", split=ALL)[0].report.warnings
    assert [warning for warning in asked if "guess" in warning or "empty" in warning] == []


def test_settings_are_readable_without_heavy_imports() -> None:
    code = (
        "import sys, terry.data_prep.config as c; c.validate(c.DatasetConfig(source='x'));"
        "print(sorted({'numpy', 'torch', 'polars', 'msgspec', 'sentencex'} & set(sys.modules)))"
    )
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "[]\n"


def test_preparing_does_not_import_torch() -> None:
    code = "import sys, terry.data_prep.prepare, terry.data_prep.dataset; print('torch' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout == "False\n"


def test_settings_through_omegaconf() -> None:
    from omegaconf import OmegaConf

    merged = OmegaConf.merge(
        OmegaConf.structured(DatasetConfig),
        {"source": ["a.csv", "b.csv"], "column": "body", "unit": "story", "clean": ["markdown"], "lowercase": None},
    )
    config = OmegaConf.to_object(merged)
    assert isinstance(config, DatasetConfig)
    validate(config)
    assert config.unit is Unit.story
    assert json.dumps(config.source) == '["a.csv", "b.csv"]'
