"""What a report counts, against counts of the same file that are made without us."""

from __future__ import annotations

import tempfile
from pathlib import Path

from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep.config import DatasetConfig, SplitConfig, Unit
from terry.data_prep.prepare import prepare

WORDS = st.lists(st.sampled_from(["sun", "Moon", "tree", "bird"]), min_size=1, max_size=6)
#: A row: words of its text, bytes at its end that are no UTF-8, fields too many.
ROWS = st.lists(st.tuples(WORDS, st.integers(0, 3), st.integers(0, 2)), min_size=1, max_size=30)


@settings(deadline=None, max_examples=25)
@given(rows=ROWS, empty=st.integers(0, 3), size=st.sampled_from([0, 6]))
def test_rows_bytes_stories_and_words_are_those_of_the_file(
    rows: list[tuple[list[str], int, int]], empty: int, size: int
) -> None:
    good = [(text, bad) for text, bad, more in rows if not more]
    rows = [*rows, (["sun"], 0, 0)]
    good.append((["sun"], 0))
    with tempfile.TemporaryDirectory() as name:
        folder = Path(name)
        lines = [b"0," + " ".join(text).encode() + b"\xff" * bad + b",x" * more for text, bad, more in rows]
        (folder / "rows.csv").write_bytes(b"\n".join([b"id,text", *lines, *[b"9, "] * empty]) + b"\n")
        config = DatasetConfig(
            source="rows.csv",
            column="text",
            unit=Unit.story,
            vocabulary_size=size,
            encoding="utf-8",
            split=SplitConfig(train=1, valid=0, test=0),
        )
        report = prepare(config, folder / "made", name="rows", base=folder).report
    file = report.files[0]
    assert (file.rows, file.ragged) == (len(rows) + empty, len(rows) - len(good))
    assert file.replaced_bytes == sum(bad for _, bad, _ in rows)
    assert (report.stories, report.empty_stories, report.examples_found) == (len(good), empty, len(good))
    lengths = [len(text) + bad for text, bad in good]  # each U+FFFD is a token of its own
    assert report.tokens["train"] == sum(lengths) + len(good)
    assert (report.longest, report.median_length) == (max(lengths), sorted(lengths)[(len(lengths) - 1) // 2])
    assert sum(each.examples for each in report.histogram) == report.examples["train"] == len(good)
    counted: dict[str, int] = {}
    for text, bad in good:
        for word in [*map(str.lower, text), *["\ufffd"] * bad]:
            counted[word] = counted.get(word, 0) + 1
    frequent = sorted(counted.items(), key=lambda item: (-item[1], item[0]))[: size - 4 if size else None]
    assert report.distinct == len(counted)
    assert [tuple(pair) for pair in report.most_frequent] == frequent
    assert abs(report.coverage["train"] - sum(n for _, n in frequent) / sum(lengths)) < 1e-9
