"""CSV, JSON lines and text files, read right or refused with a reason."""

from __future__ import annotations

import bz2
import csv
import gzip
import io
import json
import lzma
from pathlib import Path
from typing import Any, Literal

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep import readers, tables
from terry.data_prep.blocks import ReadReport
from terry.data_prep.config import DatasetConfig, Format, Paragraphs, Ragged
from terry.data_prep.errors import DataError
from terry.data_prep.readers import read
from terry.data_prep.sources import find_sources


def texts(path: Path, **settings: Any) -> tuple[list[str], ReadReport]:
    """All stories of a file, and the report."""
    config = DatasetConfig(source=str(path), **settings)
    source = find_sources(config, path.parent)[0]
    report = ReadReport(path=str(path))
    stories, parts = [], []
    for block in read(source, config, report):
        parts.append(block.text)
        if block.last:
            stories.append("".join(parts))
            parts = []
    assert not parts, "the last story was not ended"
    return stories, report


def written(tmp_path: Path, content: str | bytes, name: str = "file.csv") -> Path:
    path = tmp_path / name
    path.write_bytes(content.encode() if isinstance(content, str) else content)
    return path


def spectrum(shared: Path) -> list[Path]:
    return sorted((shared / "csv" / "csv-spectrum").glob("csvs_*.csv"))


def test_csv_spectrum_equals_its_json(shared: Path, tmp_path: Path) -> None:
    files = spectrum(shared)
    assert len(files) == 12
    for original in files:
        path = original
        expected = json.loads((path.parent / path.name.replace("csvs_", "json_").replace(".csv", ".json")).read_text())
        rows = expected if isinstance(expected, list) else [expected]
        if path.stem.endswith("_crlf"):  # a copy that went through git may have lost its carriage returns
            content = path.read_bytes().replace(b"\r\n", b"\n").replace(b"\n", b"\r\n")
            path = written(tmp_path, content, path.name)
        for column in rows[0]:
            if path.stem == "csvs_location_coordinates" and column == "Contact Phone Number":
                continue  # the suite's JSON has another number than its CSV
            found, report = texts(path, column=column)
            assert found == [row[column] for row in rows], (path.name, column)
            assert (report.ragged, report.replaced_bytes) == (0, 0), path.name


CSVKIT = {
    # file: (settings, texts, ragged rows, replaced bytes)
    "examples_dummy.csv": ({"column": "b"}, ["2"], 0),
    "examples_dummy.csv.gz": ({"column": "b"}, ["2"], 0),
    "examples_dummy.csv.bz2": ({"column": "b"}, ["2"], 0),
    "examples_dummy.tsv": ({"column": "b"}, ["2"], 0),
    "examples_test_latin1.csv": ({"column": "c"}, ["3", "©"], 0),
    "examples_test_utf16_big.csv": ({"column": "c"}, ["3", "ʤ"], 0),
    "examples_test_utf16_little.csv": ({"column": "c"}, ["3", "ʤ"], 0),
    "examples_test_utf8.csv": ({"column": "baz"}, ["3", "ʤ"], 0),
    "examples_test_utf8_bom.csv": ({"column": "foo"}, ["1", "4"], 0),
    "examples_mac_newlines.csv": ({"column": "a"}, ["1", "Once upon\ra time"], 0),
    "examples_null_byte.csv": ({"column": "a"}, ["\0"], 0),
    "examples_sniff_limit.csv": ({"column": "c"}, ["3"], 0),
    "examples_optional_quote_characters.csv": ({"column": "a"}, ["1"], 0),
    "examples_test_skip_lines.csv": ({"column": "b"}, ["2"], 0),
    "examples_bad.csv": ({"column": "column_b"}, ["mixed types.... uh oh"], 2),
    "examples_join_a_short.csv": ({"column": "b"}, ["b"], 2),
    "examples_test_extra_header.csv": ({"column": "a"}, [], 1),
    "examples_test_header_newline.csv": ({"column": "b"}, ["e"], 0),
    "examples_test_locale.csv": ({"column": "a"}, ["1,7"], 0),
    "examples_no_header_row.csv": ({"column": "1", "header": False}, ["2"], 0),
    "examples_empty.csv": ({}, [], 0),
}


def test_csvkit_examples_read_right(shared: Path) -> None:
    for name, (how, expected, ragged) in CSVKIT.items():
        found, report = texts(shared / "csv" / "csvkit_examples" / name, **how)
        assert (found, report.ragged, report.replaced_bytes) == (expected, ragged, 0), name


def independent(path: Path) -> list[list[str]]:
    """Rows by a csv reader of the standard library's defaults, from text that was unpacked and decoded by hand."""
    raw = path.read_bytes()
    raw = {".gz": gzip.decompress, ".bz2": bz2.decompress}.get(path.suffix, bytes)(raw)
    encoding = "utf-16" if "utf16" in path.name else "cp1252" if "latin1" in path.name else "utf-8-sig"
    delimiter = {"examples_sniff_limit.csv": ";", "examples_dummy.tsv": "\t"}.get(path.name, ",")
    return [row for row in csv.reader(io.StringIO(raw.decode(encoding), newline=""), delimiter=delimiter) if row]


def test_every_csvkit_example_is_read_right(shared: Path) -> None:
    """All of them, every column; rows of another length than the header's are counted."""
    files = sorted((shared / "csv" / "csvkit_examples").iterdir())
    tables = [path for path in files if path.suffix.lower() != ".txt"]
    assert len(tables) > 75
    for path in tables:
        rows = independent(path)
        fitting = [row for row in rows if len(row) == len(rows[0])]
        for place in range(len(rows[0]) if rows else 0):
            found, report = texts(path, column=str(place), header=False)  # so that a column called 1 is not meant
            assert found == [row[place] for row in fitting], (path.name, place)
            assert (report.rows, report.ragged) == (len(rows), len(rows) - len(fitting)), path.name
            assert report.replaced_bytes == 0, path.name
    for path in set(files) - set(tables):
        assert texts(path)[0] == [path.read_text(encoding="utf-8")], path.name


def test_what_polars_reads_reads_the_same(shared: Path) -> None:
    """An engine with nothing in common, but for short rows and CR line ends, which it gets wrong."""
    agreed = 0
    for path in sorted(shared.rglob("*.csv")):
        found, report = texts(path, column="0")
        if report.ragged or b"\n" not in path.read_bytes() or "';'" in report.layout:
            continue
        try:
            frame = pl.read_csv(path, infer_schema=False)
        except pl.exceptions.PolarsError:
            continue  # it takes UTF-8 only
        assert found == frame.to_series(0).fill_null("").to_list(), path.name
        agreed += 1
    assert agreed > 70


def test_pipe_delimited_text_with_long_lines(shared: Path) -> None:
    path = shared / "csv" / "csvkit_examples" / "examples_realdata_event-notification-rpt-lastmonth.txt"
    found, report = texts(path, format=Format.csv, column="Event Text", quote="none")
    assert "'|'" in report.layout
    assert len(found) + report.ragged == report.rows > 40


def test_titles_above_the_header_are_refused_with_the_columns(shared: Path) -> None:
    path = shared / "csv" / "csvkit_examples" / "examples_realdata_Datagov_FY10_EDU_recp_by_State.csv"
    with pytest.raises(DataError, match=r"say which `column` holds the text"):
        texts(path)


fields = st.text(st.characters(exclude_categories=["Cs"]), max_size=30)


@settings(deadline=None)  # files on a busy machine take their time
@given(
    rows=st.lists(st.lists(fields, min_size=2, max_size=2), min_size=1, max_size=8),
    delimiter=st.sampled_from(",;\t|"),
    quote=st.sampled_from("\"'"),
    line_end=st.sampled_from(["\n", "\r\n", "\r"]),
    encoding=st.sampled_from(["utf-8", "utf-8-sig", "utf-16"]),
    quoting=st.sampled_from([csv.QUOTE_ALL, csv.QUOTE_MINIMAL, csv.QUOTE_NONNUMERIC]),
)
def test_csv_round_trip(
    tmp_path_factory: pytest.TempPathFactory,
    rows: list[list[str]],
    delimiter: str,
    quote: str,
    line_end: str,
    encoding: str,
    quoting: Literal[0, 1, 2],
) -> None:
    if quoting == csv.QUOTE_MINIMAL:
        line_end = "\r\n"  # with another, the csv module's writer leaves line breaks of the other kinds bare
    out = io.StringIO(newline="")
    writer = csv.writer(out, delimiter=delimiter, quotechar=quote, quoting=quoting, lineterminator=line_end)
    writer.writerows([["id", "body"], *rows])
    path = tmp_path_factory.mktemp("round") / "file.csv"
    path.write_bytes(out.getvalue().encode(encoding))
    given_encoding = "utf-8" if encoding == "utf-8" else None
    found, report = texts(path, delimiter=delimiter, quote=quote, encoding=given_encoding)
    assert found == [row[1] for row in rows]
    assert (report.rows, report.ragged, report.replaced_bytes) == (len(rows), 0, 0)


plain = st.text(
    st.characters(codec="ascii", exclude_categories=["Cc"], exclude_characters="\"',;|"), min_size=1, max_size=20
)


@settings(deadline=None)  # files on a busy machine take their time
@given(
    rows=st.lists(st.lists(plain, min_size=3, max_size=3), min_size=3, max_size=20), delimiter=st.sampled_from(",;\t|")
)
def test_delimiter_is_found(tmp_path_factory: pytest.TempPathFactory, rows: list[list[str]], delimiter: str) -> None:
    path = tmp_path_factory.mktemp("sniff") / "file.csv"
    path.write_text("\n".join(delimiter.join(row) for row in [["id", "body", "score"], *rows]) + "\n")
    found, _ = texts(path)
    assert found == [row[1] for row in rows]


def test_single_quotes_are_found(tmp_path: Path) -> None:
    found, _ = texts(written(tmp_path, "id,body\n1,'a, b'\n2,'it''s'\n"), column="body")
    assert found == ["a, b", "it's"]


def test_apostrophes_are_not_quotes(tmp_path: Path) -> None:
    found, _ = texts(written(tmp_path, "body,id\n'tis true,1\n'twas not,2\nso 'e said,3\n"), column="body")
    assert found == ["'tis true", "'twas not", "so 'e said"]


def test_backslash_escapes(tmp_path: Path) -> None:
    found, _ = texts(written(tmp_path, 'id,body\n1,"say \\"hi\\", you"\n'), escape="\\")
    assert found == ['say "hi", you']


def test_fields_beyond_the_csv_modules_limit(tmp_path: Path) -> None:
    long = "word " * 60_000
    found, _ = texts(written(tmp_path, f'id,body\n1,"{long}"\n2,short\n'))
    assert found == [long, "short"]


def test_ragged_rows_skipped_kept_refused(tmp_path: Path) -> None:
    path = written(tmp_path, "id,body,score\n1,good,3\n2,long,3,4\n3,short\n4\n")
    assert texts(path)[0] == ["good"]
    skipped = texts(path)[1]
    assert (skipped.rows, skipped.ragged) == (4, 3)
    assert skipped.first_ragged == "line 3: 4 fields, the first row has 3"
    kept, report = texts(path, ragged=Ragged.keep)
    assert (kept, report.ragged) == (["good", "long", "short"], 3)
    with pytest.raises(DataError, match=r"file\.csv:3: 4 fields, the first row has 3"):
        texts(path, ragged=Ragged.refuse)


def test_a_stray_quote_costs_its_own_line_only(tmp_path: Path) -> None:
    """The mark opened in line 3 is closed by the one in line 6; strict reading fails only there."""
    content = 'id,body,score\n1,good,3\n2,"oops,3\n3,fine,4\n\n4,"also, fine",5\n5,last,6,7\n'
    found, report = texts(written(tmp_path, content))
    assert found == ["good", "fine", "also, fine"]
    assert (report.rows, report.ragged) == (5, 2)
    assert "line 3: malformed row" in report.first_ragged
    with pytest.raises(DataError, match=r"file\.csv:3: malformed row"):
        texts(written(tmp_path, content), ragged=Ragged.refuse)


@settings(deadline=None)  # files on a busy machine take their time
@given(
    rows=st.lists(
        st.sampled_from(["1,a,2", '1,"a\nb, c",2', '1,"oops,2', "1,a", '1,"a"b,2', "", '"1","",""']), max_size=9
    )
)
def test_lines_behind_malformed_rows_are_all_read(tmp_path_factory: pytest.TempPathFactory, rows: list[str]) -> None:
    """However bad rows are mixed with good ones: a good row behind the last bad one is read, and lines are right."""
    path = tmp_path_factory.mktemp("mixed") / "file.csv"
    path.write_text("\n".join(["id,body,score", *rows, "9,end,9", '9,"the end",9']) + "\n")
    found, report = texts(path)
    assert found[-2:] == ["end", "the end"]
    if report.ragged:
        number = int(report.first_ragged.split()[1].rstrip(":"))
        first = next(i for i, row in enumerate(rows) if row in {'1,"oops,2', "1,a", '1,"a"b,2'})
        assert number == 2 + sum(row.count("\n") + 1 for row in rows[:first])


def test_a_field_without_an_end_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "FIELD_LIMIT", 200_000)
    path = written(tmp_path, 'id,body\n1,fine\n2,"opened\n' + "3,fine\n" * 40_000)
    with pytest.raises(DataError, match=r"file\.csv:3: a field of more than 200,000 characters .* `quote: none`"):
        texts(path)


def test_malformed_row_does_not_end_reading(tmp_path: Path) -> None:
    found, report = texts(written(tmp_path, 'id,body\n1,"a"b\n2,good\n'))
    assert (found, report.rows, report.ragged) == (["good"], 2, 1)
    assert "line 2: malformed row" in report.first_ragged


def test_file_cut_short_in_its_last_row(tmp_path: Path) -> None:
    path = written(tmp_path, 'id,body\n1,whole\n2,"cut sho')
    found, report = texts(path)
    assert (found, report.rows, report.ragged) == (["whole"], 2, 1)
    assert "line 3: a quotation mark is opened in this row and never closed; 10 characters" in report.first_ragged
    with pytest.raises(DataError, match="never closed"):
        texts(path, ragged=Ragged.refuse)
    assert texts(path, quote="none")[0] == ["whole", '"cut sho']


def test_stray_quote_that_swallows_the_file_is_refused(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "LONGEST_LAST_ROW", 100)
    path = written(tmp_path, 'id,body\n1,"opened\n' + "2,fine\n" * 100)
    with pytest.raises(DataError, match=r"file\.csv:2: .* 710 characters"):
        texts(path)


@pytest.mark.parametrize("encoding", ["utf-8", "utf8", "UTF_8", "utf-16", "utf-16-le", "utf-32"])
def test_a_given_encoding_may_have_a_mark(tmp_path: Path, encoding: str) -> None:
    name = encoding.removesuffix("-le")
    content = "\ufeffid,body\n1,naïve\n".encode("utf-16-le") if name != encoding else "id,body\n1,naïve\n".encode(name)
    content = b"\xef\xbb\xbf" + content if "8" in encoding else content
    assert texts(written(tmp_path, content), encoding=encoding, column="id")[0] == ["1"]


def test_column_by_name_number_guess_and_mistake(tmp_path: Path) -> None:
    path = written(tmp_path, "id,Body,score\n1,text,3\n")
    assert texts(path)[0] == ["text"]
    assert texts(path)[1].column == "Body"
    assert texts(path, column="2")[0] == ["3"]
    with pytest.raises(DataError, match=r"no column 'bdy'; it has 'id', 'Body', 'score'"):
        texts(path, column="bdy")
    with pytest.raises(DataError, match="0 to 2"):
        texts(path, header=False)


def test_json_lines(tmp_path: Path) -> None:
    lines = ['{"id": 1, "body": "one\\ntwo"}', "", "not json", '{"body": null}', '{"id": 4}', '{"body": "é 😀"}']
    path = written(tmp_path, "\n".join(lines), "file.jsonl")
    found, report = texts(path)
    assert found == ["one\ntwo", "é 😀"]
    assert (report.rows, report.ragged, report.column) == (5, 2, "body")
    with pytest.raises(DataError, match=r"file\.jsonl:3: not a JSON object"):
        texts(path, ragged=Ragged.refuse)
    with pytest.raises(DataError, match="is one JSON array"):
        texts(written(tmp_path, '[\n{"body": "y"}\n]\n', "array.json"))
    with pytest.raises(DataError, match=r"say which `column` .* 'x'"):
        texts(written(tmp_path, '{"x": "y"}\n', "other.jsonl"))


@settings(deadline=None)  # files on a busy machine take their time
@given(records=st.lists(fields, max_size=8))
def test_json_lines_round_trip(tmp_path_factory: pytest.TempPathFactory, records: list[str]) -> None:
    path = tmp_path_factory.mktemp("json") / "file.jsonl"
    path.write_text("".join(json.dumps({"body": text}, ensure_ascii=False) + "\n" for text in records))
    assert texts(path, column="body", encoding="utf-8")[0] == records


@pytest.mark.parametrize("pack", [gzip.compress, bz2.compress, lzma.compress])
def test_packed_files_whatever_their_name(tmp_path: Path, pack: Any) -> None:
    path = written(tmp_path, pack(b"id,body\n1,packed\n"), "odd-name.csv")
    assert texts(path)[0] == ["packed"]


def test_packed_file_cut_short_is_refused(tmp_path: Path) -> None:
    path = written(tmp_path, gzip.compress(b"id,body\n" + b"1,packed\n" * 1000)[:-20], "file.csv.gz")
    with pytest.raises(DataError, match="cannot be unpacked"):
        texts(path)


def test_a_short_text_is_one_block(tmp_path: Path) -> None:
    path = written(tmp_path, "one line", "file.txt")
    source = find_sources(DatasetConfig(source=str(path)), tmp_path)[0]
    assert list(read(source, DatasetConfig(source="x"), ReadReport(path="x"))) == [("one line", True)]


@settings(deadline=None)  # files on a busy machine take their time
@given(st.lists(st.sampled_from(["word", " ", "\n", "\n\n", "ünï", "\n \n"]), max_size=200).map("".join))
def test_text_blocks_join_to_the_text(tmp_path_factory: pytest.TempPathFactory, text: str) -> None:
    path = tmp_path_factory.mktemp("text") / "file.txt"
    path.write_text(text, encoding="utf-8", newline="")
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(readers, "_PIECE", 16)
        patch.setattr(readers, "_LONGEST_PARAGRAPH", 40)
        source = find_sources(DatasetConfig(source=str(path)), path.parent)[0]
        blocks = list(read(source, DatasetConfig(source="x"), ReadReport(path="x")))
        assert all(block.text.endswith("\n") or len(block.text) > 160 for block in blocks[:-1])
        assert texts(path)[0] == [text]
        assert texts(path, paragraphs=Paragraphs.line)[0] == [text]


def test_line_ends_of_text_are_unified(tmp_path: Path) -> None:
    assert texts(written(tmp_path, b"a\r\nb\rc\n", "file.txt"))[0] == ["a\nb\nc\n"]


def test_sources_folders_globs_and_mistakes(tmp_path: Path) -> None:
    (tmp_path / "sub" / ".hidden").mkdir(parents=True)
    for name in ("b.txt", "a.csv", "sub/c.jsonl", "sub/d.bin", ".e.txt", "sub/.hidden/f.txt", "g.tsv.gz"):
        written(tmp_path, "x", name)

    def names(source: Any, **settings: Any) -> list[tuple[str, Format]]:
        found = find_sources(DatasetConfig(source=source, **settings), tmp_path)
        return [(str(s.path.relative_to(tmp_path)), s.format) for s in found]

    everything = [
        ("a.csv", Format.csv),
        ("b.txt", Format.text),
        ("g.tsv.gz", Format.tsv),
        ("sub/c.jsonl", Format.jsonl),
    ]
    assert names(".") == everything
    assert names("*.txt") == [("b.txt", Format.text)]
    assert names(["sub/d.bin", "b.txt"]) == [("sub/d.bin", Format.text), ("b.txt", Format.text)]
    assert names("**/*.jsonl") == [("sub/c.jsonl", Format.jsonl)]
    assert names(str(tmp_path / "b.txt")) == [("b.txt", Format.text)]
    for bad, words in (("nothing.csv", "no such file"), ("sub/.hidden/*.csv", "no such file")):
        with pytest.raises(DataError, match=words):
            names(bad)
    with pytest.raises(DataError, match="both in source"):
        names("b.txt", test_source="b.txt")
