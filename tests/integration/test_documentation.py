"""The documentation does what it says: its commands are run as a reader would, and print what the pages show."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.doc_blocks import Reader, check

DOCS = Path(__file__).parents[2] / "docs"
#: In an order in which a reader may take them: some go on with what an earlier page has made.
PAGES = [
    "first.md",
    "how-to/sweep.md",
    "how-to/search.md",
    "how-to/own-training.md",
    "how-to/programs.md",
    "how-to/import.md",
    "how-to/resume.md",
    "how-to/second-month.md",
    "how-to/crash.md",
    "how-to/ensemble.md",
    "how-to/notebook.md",
]


@pytest.fixture(scope="module")
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody with one folder for all pages."""
    found = Reader(tmp_path_factory.mktemp("reader"))
    yield found
    found.down()


@pytest.mark.timeout(420)
@pytest.mark.parametrize("page", PAGES)
def test_a_page_tells_the_truth(reader: Reader, page: str) -> None:
    """Command by command; numbers, durations and the words of a network may differ."""
    check(reader, DOCS / page)
