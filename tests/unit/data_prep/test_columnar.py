"""Parquet and Arrow: every row, any column, text further down, and what they are refused for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import polars as pl
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.data_prep import columnar
from terry.data_prep.blocks import ReadReport
from terry.data_prep.config import DatasetConfig, SplitConfig
from terry.data_prep.errors import DataError
from terry.data_prep.readers import read
from terry.data_prep.sources import find_sources
from tests.unit.data_prep.conftest import Make

ALL = SplitConfig(train=1, valid=0, test=0)
KINDS = ["a.parquet", "a.feather", "a.arrow"]


def written(folder: Path, name: str, frame: pl.DataFrame) -> Path:
    """As a Parquet file, an Arrow file, or the Arrow stream that the `datasets` library writes."""
    path = folder / name
    if name.endswith(".parquet"):
        frame.write_parquet(path, row_group_size=3)
    elif name.endswith(".feather"):
        frame.write_ipc(path)
    else:
        frame.write_ipc_stream(path)
    return path


def stories(path: Path, **how: Any) -> tuple[list[str], ReadReport]:
    config = DatasetConfig(source=str(path), **how)
    report = ReadReport(path=str(path))
    return [block.text for block in read(find_sources(config, path.parent)[0], config, report)], report


@settings(deadline=None, max_examples=40)
@given(
    rows=st.lists(st.none() | st.text(st.characters(exclude_categories=["Cs"]), max_size=20), max_size=20),
    name=st.sampled_from(KINDS),
)
def test_every_row_is_read(tmp_path_factory: pytest.TempPathFactory, rows: list[str | None], name: str) -> None:
    folder = tmp_path_factory.mktemp("columnar")
    frame = pl.DataFrame({"id": range(len(rows)), "body": pl.Series(rows, dtype=pl.String)})
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(columnar, "_ROWS", 4)
        found, report = stories(written(folder, name, frame))
    assert found == [row for row in rows if row is not None]
    assert (report.rows, report.ragged, report.column) == (len(rows), 0, "body")


@pytest.mark.parametrize("name", KINDS)
def test_text_further_down_and_dictionaries(tmp_path: Path, name: str) -> None:
    frame = pl.DataFrame(
        {
            "data": [{"body": "one"}, {"body": None}, None, {"body": "two"}],
            "turns": [[{"text": "a"}, {"text": "b"}], [{"text": "c"}], [], [{"text": "d"}, {"text": "e"}]],
            "kind": pl.Series(["x", "y", "x", "y"], dtype=pl.Categorical),
        }
    )
    path = written(tmp_path, name, frame)
    assert stories(path, column="data.body")[0] == ["one", "two"]
    found, report = stories(path, column="turns.1.text")
    assert (found, report.rows, report.ragged) == (["b", "e"], 4, 2)
    assert stories(path, column="kind")[0] == ["x", "y", "x", "y"]


@pytest.mark.parametrize("name", KINDS)
def test_mistakes_are_told(tmp_path: Path, name: str) -> None:
    path = written(tmp_path, name, pl.DataFrame({"a": ["x"], "b": ["y"], "n": [1]}))
    with pytest.raises(DataError, match=r"say which `column` holds the text; there are 'a' \(String\), 'b'"):
        stories(path)
    with pytest.raises(DataError, match="has no column 'c'"):
        stories(path, column="c")
    with pytest.raises(DataError, match="the column 'n' holds no text, but Int64"):
        stories(path, column="n")
    with pytest.raises(DataError, match="`delimiter` does nothing"):
        stories(path, delimiter=";")
    path.write_bytes(b"nothing of the kind")
    with pytest.raises(DataError, match=r"cannot be read as (parquet|arrow)"):
        stories(path, column="a")


def test_a_table_under_another_name_is_known_by_its_first_bytes(tmp_path: Path) -> None:
    path = written(tmp_path, "a.parquet", pl.DataFrame({"body": ["x"]})).rename(tmp_path / "a.txt")
    with pytest.raises(DataError, match="is a Parquet file: say `format: parquet`"):
        stories(path)


def test_a_folder_of_the_datasets_library(tmp_path: Path, make: Make) -> None:
    """Shards, and what it writes beside them, which is no text."""
    for split, rows in (("train", ["One here. Two.", "Three."]), ("validation", ["Four."])):
        folder = tmp_path / "hub" / split
        folder.mkdir(parents=True)
        for i, row in enumerate(rows):
            written(folder, f"data-{i:05}-of-{len(rows):05}.arrow", pl.DataFrame({"text": [row], "label": [i]}))
        (folder / "dataset_info.json").write_text('{"description": "not a text"}')
        (folder / "state.json").write_text('{"_fingerprint": "1"}')
    prepared, dataset = make(source="hub/train", valid_source="hub/validation", split=ALL, name="hub")
    assert [dataset.split(name).examples for name in ("train", "valid")] == [3, 1]
    assert [file.layout for file in prepared.report.files] == ["arrow"] * 3
