"""Nothing is read in silence as something else: idle settings, surprising files, and every count of a report."""

from __future__ import annotations

import csv
import io
import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep.blocks import ReadReport
from terry.data_prep.config import (
    Choose,
    Clean,
    DatasetConfig,
    Format,
    Inner,
    Level,
    Ragged,
    SplitBy,
    SplitConfig,
    Splitter,
    Tokenizer,
    Unit,
    validate,
)
from terry.data_prep.errors import DataError
from terry.data_prep.looks import table_in
from terry.data_prep.prepare import prepare
from terry.data_prep.readers import read
from terry.data_prep.sources import find_sources
from tests.unit.data_prep.conftest import Make

ALL = SplitConfig(train=1, valid=0, test=0)


def stories(path: Path, **how: Any) -> tuple[list[str], ReadReport]:
    """Every story of a file that is not read in pieces, and the report."""
    config = DatasetConfig(source=str(path), **how)
    report = ReadReport(path=str(path))
    return [block.text for block in read(find_sources(config, path.parent)[0], config, report)], report


@pytest.mark.parametrize(
    ("name", "how", "key"),
    [
        ("a.psv", {"column": "body"}, "column"),
        ("a", {"column": "body", "unit": Unit.story}, "column"),
        ("a.txt", {"delimiter": ";"}, "delimiter"),
        ("a.txt", {"header": False}, "header"),
        ("a.md", {"quote": "none"}, "quote"),
        ("a.jsonl", {"escape": "\\"}, "escape"),
        ("a.txt", {"ragged": Ragged.keep}, "ragged"),
        ("a.csv", {"format": Format.text, "column": "body"}, "column"),
    ],
)
def test_settings_that_a_file_of_this_kind_ignores_are_refused(
    tmp_path: Path, name: str, how: dict[str, Any], key: str
) -> None:
    (tmp_path / name).write_text("id|body\n1|Hello there, old friend.\n2|Good bye now.\n")
    with pytest.raises(DataError, match=f"where `{key}` does nothing: it is for (csv|tsv|jsonl)") as caught:
        prepare(DatasetConfig(source=name, **how), tmp_path / "made", name="x", base=tmp_path)
    assert caught.value.key == key
    assert not (tmp_path / "made").exists()


@pytest.mark.parametrize(
    ("how", "words"),
    [
        ({"level": Level.character, "tokenizer": Tokenizer.whitespace}, "tokenizer does nothing here: it needs level"),
        ({"unit": Unit.story, "level": Level.character, "splitter": Splitter.lines}, "splitter does nothing"),
        ({"splitter": Splitter.lines, "language": "de"}, "language does nothing here: it needs splitter: rules"),
        ({"inner_boundaries": Inner.none}, "inner_boundaries does nothing here: it needs unit: paragraph or story"),
        ({"choose": Choose.random}, "choose does nothing here: it needs max_examples above 0"),
        ({"split": SplitConfig(train=1, valid=0, test=0, by=SplitBy.order)}, r"split\.by does nothing"),
        ({"split": SplitConfig(by=SplitBy.order), "seed": 4}, "seed does nothing"),
    ],
)
def test_settings_that_do_nothing_are_refused(how: dict[str, Any], words: str) -> None:
    with pytest.raises(DataError, match=words):
        validate(DatasetConfig(source="x.txt", **how))


def test_a_setting_that_some_of_the_files_read_stays(tmp_path: Path, make: Make) -> None:
    (tmp_path / "a.csv").write_text("id,body\n1,Hello there.\n")
    (tmp_path / "b.txt").write_text("Some text.\n")
    prepared, _ = make(source=["a.csv", "b.txt"], column="body", split=ALL)
    assert [file.column for file in prepared.report.files] == ["body", ""]


TABLES = ["id|body\n1|Hello there.\n2|Good bye.\n", "a\tb\n1\t2\n3\t4\n", "id,text\n1,one\n2,two\n"]
PROSE = [
    "Hello, there\nHow, then\nAnd, so\n",
    "One line; and more.\nAnother; too.\nA third; as well.\n",
    "She came | he went | they stayed.\nNothing here.\nNor here.\n",
    "Just words.\n",
    "",
]


def test_tables_in_plain_text_are_told_from_prose() -> None:
    assert [table_in(text) is not None for text in TABLES] == [True] * len(TABLES)
    assert [table_in(text) for text in PROSE] == [None] * len(PROSE)


def test_what_looks_like_something_else_is_told(tmp_path: Path, make: Make) -> None:
    for i, text in enumerate(TABLES):
        prepared, _ = make(text, suffix=".dat", name=f"t{i}", split=ALL)
        assert sum("looks like a table delimited by" in warning for warning in prepared.report.warnings) == 1
    page = "<!DOCTYPE html><html><body><p>One.</p><p>Two.</p></body></html>"
    assert "looks like HTML" in str(make(page, name="page", split=ALL)[0].report.warnings)
    assert "looks like HTML" not in str(make(page, name="p", split=ALL, clean=[Clean.html_tags])[0].report.warnings)
    assert make("a < b and c > d. " * 30, name="maths", split=ALL)[0].report.warnings == []


def test_a_mixed_folder_says_what_it_took_and_what_it_left(tmp_path: Path, make: Make) -> None:
    folder = tmp_path / "mixed"
    (folder / ".git").mkdir(parents=True)
    for name in ("a.txt", "b.txt", "c.csv", "README.md", "d.pdf", "e.pdf", "f", ".git/g.txt"):
        (folder / name).write_text("id,body\n1,Words here.\n2,More of them.\n")
    warnings = make(source="mixed", split=ALL)[0].report.warnings
    assert warnings[0] == (
        f"of the folder {folder} were read: 2 .txt, 1 .csv, 1 .md; left out, as their names say no format that is "
        "read: 2 .pdf, 1 no ending; hidden ones, left out: 1"
    )
    assert any("README.md: it looks like a note about the others" in warning for warning in warnings)
    alone = tmp_path / "alone"
    alone.mkdir()
    (alone / "README.md").write_text("Only words.")
    assert make(source="alone", split=ALL)[0].report.warnings == []


# why nothing is left


@pytest.mark.parametrize(
    ("content", "suffix", "words"),
    [
        (
            "id,text\n" + "1,abc,\n" * 200,
            ".csv",
            r"200 rows read, .* 200 rows did not fit or could not be decoded, the first: .*, line 2: 3 fields, the "
            r"first row has 2, and this one ends with a delimiter: `ragged: keep`",
        ),
        ('id,text\n1,"say \\"hi\\", you"\n', ".csv", r"line 2: malformed row .*: in it stands \\\", .*`escape: \\`"),
        ("{'text': 1}\n", ".jsonl", r"the first: .*, line 1: not a JSON object"),
    ],
)
def test_nothing_left_names_the_rows_that_did_not_fit(make: Make, content: str, suffix: str, words: str) -> None:
    with pytest.raises(DataError, match=f"nothing is left to train on: {words}" if "rows read" in words else words):
        make(content, suffix=suffix, split=ALL, column="text")


# JSON lines: only the text has to make sense


@pytest.mark.parametrize(
    ("line", "text", "replaced"),
    [
        ('{"id": NaN, "body": "one"}', "one", 0),
        ('{"id": -Infinity, "body": "one"}', "one", 0),
        ('{"n": 1e999, "m": -1E+400, "body": "one"}', "one", 0),
        (f'{{"n": {"9" * 5000}, "body": "one"}}', "one", 0),
        ('{"author": "\\ud83d", "body": "one"}', "one", 0),
        ('{"a": "raw\ttab", "body": "one"}', "one", 0),
        ('{"body": "a \\ud83d b \\ude00"}', "a \ufffd b \ufffd", 2),
        ('{"body": "\\ud83d\\ude00"}', "\U0001f600", 0),
        ('{"a": NaN, "body": "\\ud83d\\ude00 \\udc00"}', "\U0001f600 \ufffd", 1),
    ],
)
def test_json_lines_lose_no_row_for_other_fields(tmp_path: Path, line: str, text: str, replaced: int) -> None:
    path = tmp_path / "a.jsonl"
    path.write_text(line + "\n", encoding="utf-8")
    found, report = stories(path, column="body")
    assert (found, report.rows, report.ragged, report.replaced_bytes) == ([text], 1, 0, replaced)


json_values = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(st.characters(), max_size=5),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text("ab.", max_size=2), inner, max_size=3),
    max_leaves=8,
)


@settings(deadline=None)  # files on a busy machine take their time
@given(rows=st.lists(st.tuples(st.none() | st.text(max_size=20) | st.integers(), json_values), max_size=10))
def test_what_python_writes_as_json_is_read(
    tmp_path_factory: pytest.TempPathFactory, rows: list[tuple[Any, Any]]
) -> None:
    """Whatever stands in the other fields; half surrogates in the text become U+FFFD and are counted."""
    path = tmp_path_factory.mktemp("json") / "a.jsonl"
    lines = [json.dumps({"other": other, "data": {"body": text}}) for text, other in rows]
    path.write_text("\n".join(lines), encoding="utf-8")
    found, report = stories(path, column="data.body")
    written = [json.loads(line)["data"]["body"] for line in lines]
    expected = [
        text.encode("utf-16", "surrogatepass").decode("utf-16", "replace") for text in written if isinstance(text, str)
    ]
    assert found == expected
    assert (report.rows, report.ragged) == (len(rows), sum(isinstance(text, int) for text, _ in rows))


@pytest.mark.parametrize("column", ["data.body", "turns.1.text", "a.b"])
def test_text_further_down_is_read(tmp_path: Path, column: str) -> None:
    record = {"data": {"body": "here"}, "turns": [{"text": "no"}, {"text": "here"}], "a.b": "here", "a": {"b": "no"}}
    path = tmp_path / "a.jsonl"
    path.write_text(json.dumps(record) + "\n" + json.dumps({"data": 1, "turns": [], "a": []}) + "\n")
    found, report = stories(path, column=column)
    assert (found, report.rows, report.ragged) == (["here"], 2, 1)
    with pytest.raises(DataError, match=r"the first object has 'data\.body', 'turns', 'a\.b', 'a\.b'"):
        stories(path)


# counts


def test_bad_bytes_at_the_beginning_of_a_table_are_counted_once(tmp_path: Path) -> None:
    path = tmp_path / "a.csv"
    path.write_bytes(b"id,text\n1,na\xc3\xafve caf\xe9 here\n2,plain\n")
    found, report = stories(path)
    assert (found, report.replaced_bytes) == (["naïve caf\ufffd here", "plain"], 1)


cells = st.text(st.characters(codec="utf-8", exclude_characters="\0"), max_size=12) | st.sampled_from(
    ["", " ", '"', "''", "a\nb", "a\r\nb", "x, y; z", "caf\udce9", "\udcff\udcfe"]
)


@settings(deadline=None, max_examples=200)
@given(
    rows=st.lists(st.lists(cells, min_size=1, max_size=4), max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    quote=st.sampled_from("\"'"),
    line_end=st.sampled_from(["\n", "\r\n"]),
    keep=st.booleans(),
    place=st.integers(0, 1),
)
def test_tables_and_their_counts_by_the_csv_module(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    delimiter: str,
    quote: str,
    line_end: str,
    keep: bool,
    place: int,
) -> None:
    """Rows of any width, quoted, with bytes that are no UTF-8 (written by half surrogates)."""
    out = io.StringIO(newline="")
    table = [["id", "body"], *rows]
    writer = csv.writer(out, delimiter=delimiter, quotechar=quote, quoting=csv.QUOTE_ALL, lineterminator=line_end)
    writer.writerows(table)
    raw = out.getvalue().encode("utf-8", "surrogateescape")
    path = tmp_path_factory.mktemp("table") / "a.csv"
    path.write_bytes(raw)
    how = {"delimiter": delimiter, "quote": quote, "encoding": "utf-8", "column": ["id", "body"][place]}
    found, report = stories(path, ragged=Ragged.keep if keep else Ragged.skip, **how)
    text = raw.decode("utf-8", "surrogateescape")
    bad = sum("\udc80" <= c <= "\udcff" for c in text)
    again = [row for row in csv.reader(io.StringIO(text, newline=""), delimiter=delimiter, quotechar=quote) if row][1:]
    wanted = [row for row in again if len(row) == 2 or (keep and len(row) > place)]
    assert [t.replace("\ufffd", "?") for t in found] == [_unescaped(row[place]) for row in wanted]
    assert (report.rows, report.ragged) == (len(again), sum(len(row) != 2 for row in again))
    assert report.replaced_bytes == bad


def _unescaped(text: str) -> str:
    """A run of bad bytes that a decoder takes for one broken character is one U+FFFD; here each is shown alike."""
    return text.encode("utf-8", "surrogateescape").decode("utf-8", "replace").replace("\ufffd", "?")
