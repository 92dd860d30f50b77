"""Where the large test texts are, and short ways to read and prepare."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from terry.data_prep.config import DatasetConfig
from terry.data_prep.dataset import Dataset
from terry.data_prep.prepare import Prepared, prepare

Make = Callable[..., tuple[Prepared, Dataset]]


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of large test texts: TERRY_TEST_DATA, else ../shared/data beside the checkout."""
    default = Path(__file__).parents[4] / "shared" / "data"
    folder = Path(os.environ.get("TERRY_TEST_DATA", default))
    if not folder.is_dir():
        pytest.skip(f"the test texts are missing: {folder} (set TERRY_TEST_DATA)")
    return folder


@pytest.fixture
def make(tmp_path: Path) -> Make:
    """Prepare a data set from a text, or from `source`, and open it."""

    def function(text: str | None = None, *, suffix: str = ".txt", name: str = "sample", **settings: Any) -> Any:
        if text is not None:
            path = tmp_path / f"{name}{suffix}"
            path.write_text(text, encoding="utf-8", newline="")
            settings["source"] = str(path)
        prepared = prepare(DatasetConfig(**settings), tmp_path / "datasets", name=name, base=tmp_path)
        dataset = Dataset.open(prepared.path)
        dataset.verify()
        return prepared, dataset

    return function
