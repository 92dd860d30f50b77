"""The page about nodes by ssh does what it says: read on the login host of a bed."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.helpers.doc_blocks import ROOT, Reader, check
from tests.testbed.beds import Bed, why_not

pytestmark = [pytest.mark.timeout(400), pytest.mark.skipif(bool(why_not()), reason=why_not())]


@pytest.fixture
def reader(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Reader]:
    """Somebody on the login host, in a folder that all hosts share."""
    bed = Bed(tmp_path_factory.mktemp("bed"))
    bed.up("login", "seawolf", "quattro")
    folder = bed.shared / "reader"
    folder.mkdir()
    yield Reader(folder, at=[str(bed.state / "bin" / "on"), "login"])
    bed.down()


def test_the_page_tells_the_truth(reader: Reader) -> None:
    check(reader, ROOT / "docs" / "how-to" / "ssh.md")
