"""Real nodes and trainings on a workspace whose file system caches, forgets and lies as NFS, SMB and Lustre do."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.faults.workspace_under_fire import write_words
from tests.testbed.beds import Bed, why_not
from tests.testbed.file_server import shared_by
from tests.testbed.lab import Lab

pytestmark = [pytest.mark.skipif(bool(why_not()), reason=why_not()), pytest.mark.timeout(900)]

HOSTS = ["login", "seawolf", "quattro"]
#: Seconds that clients cache for; nfs(5) has 3 to 60.
CACHED_S = 3.0


@pytest.fixture
def bed(tmp_path: Path) -> Iterator[Bed]:
    made = Bed(tmp_path / "bed")
    try:
        made.up(*HOSTS)
        yield made
    finally:
        made.down()


@pytest.mark.parametrize("kind", ["nfs", "nfs-squashed", "lustre", "smb"])
def test_a_sweep_is_trained_as_on_a_local_disk(bed: Bed, kind: str) -> None:
    with shared_by(bed, HOSTS, kind, CACHED_S) as shared:
        write_words(shared / "words.csv")
        lab = Lab(bed)
        try:
            lab.submit("one", on=HOSTS[1:])
            lab.finish("one")
            lab.assert_each_done_once("one")
            print(lab.run("doctor", check=False))
            print(lab.run("status", host="quattro"))
        finally:
            print(lab.run("down", check=False))
