"""The page about Ray clusters that run already does what it says: read on one of the cluster's nodes, on a bed."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.helpers.doc_blocks import ROOT, Reader, check
from tests.testbed.beds import Bed, why_not

pytestmark = [pytest.mark.timeout(400), pytest.mark.skipif(bool(why_not()), reason=why_not())]

#: What whoever runs the cluster has done, with the token that all its users have.
_START = """exec ray start --head --node-ip-address=10.77.0.1 --port=6379 --num-cpus=1 --include-dashboard=false \\
    --object-store-memory=80000000 >/tmp/started 2>&1 </dev/null"""


def somebody(bed: Bed) -> Reader:
    """Somebody on login, where a Ray cluster of others runs."""
    bed.up("login", "seawolf")
    folder, home = bed.shared / "reader", bed.shared / "home"
    folder.mkdir()
    token = home / ".ray" / "auth_token"
    token.parent.mkdir(parents=True, mode=0o700)
    token.write_text(secrets.token_hex(32))
    token.chmod(0o600)
    reader = Reader(folder, at=[str(bed.state / "bin" / "on"), "login"], HOME=str(home))
    code, said = reader.run(f"RAY_AUTH_MODE=token {_START}")
    assert code == 0, (said, bed.on("login", "cat", "/tmp/started").stdout)
    return reader


@pytest.fixture
def bed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Bed]:
    found = Bed(tmp_path_factory.mktemp("bed"))
    yield found
    found.down()


def test_the_page_tells_the_truth(bed: Bed) -> None:
    check(somebody(bed), Path(ROOT) / "docs" / "how-to" / "ray.md")
    left = [line for line in bed.on("login", "ps", "-ewwo", "args").stdout.splitlines() if "raylet/raylet" in line]
    assert len(left) == 1, "theirs goes on"
    assert "terry" not in bed.on("seawolf", "ps", "-ewwo", "args").stdout
