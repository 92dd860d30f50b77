"""One cluster for all tests that kill things: starting Ray costs more than most of them."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.faults.small_disk import SmallDisk, mounted
from tests.faults.workspace_under_fire import UnderFire, kill


@pytest.fixture(scope="session")
def own_disk(tmp_path_factory: pytest.TempPathFactory) -> Iterator[SmallDisk | None]:
    """The file system on which `place` stands, where it is one of its own."""
    folder = tmp_path_factory.mktemp("fire") / "work space"
    folder.mkdir(mode=0o700)
    with mounted(folder, 96 << 20) as found:
        yield found


@pytest.fixture(scope="session")
def place(own_disk: SmallDisk | None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[UnderFire]:
    """A workspace with real Ray. A test leaves nothing at work in it."""
    found = UnderFire(own_disk.folder.parent if own_disk else tmp_path_factory.mktemp("plain"))
    yield found
    found.run("down", check=False)
    kill(found.everything())


@pytest.fixture
def disk(own_disk: SmallDisk | None) -> SmallDisk:
    """The same, for what cannot be done without."""
    if own_disk is None:
        pytest.skip("a file system cannot be mounted here: that needs root")
    return own_disk
