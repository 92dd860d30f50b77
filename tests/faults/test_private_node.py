"""No shared file system: a node that Ray alone connects with the workspace does its share of a sweep, and may die.

On the bed of ssh hosts each host has a /tmp of its own: a workspace there is seen by its host alone.
"""

from __future__ import annotations

import shutil
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from terry.cluster.core.model import EndReason
from terry.jobs.process.checkpoints import checkpoints, load
from tests.faults.workspace_under_fire import COMMAND, UnderFire
from tests.testbed.beds import Bed, why_not

pytestmark = [pytest.mark.timeout(900), pytest.mark.skipif(bool(why_not()), reason=why_not() or "there is a bed")]

NODES = """\
nodes:
  here: {kind: local, cpus: 1}
  lab: {kind: ssh, hosts: [seawolf], cpus: 1}
"""


class OnLogin(UnderFire):
    """A workspace in the /tmp of the host `login`, where all commands are given."""

    def __init__(self, bed: Bed) -> None:
        self._bed = bed
        self.tmp = bed.state / "hosts" / "login" / "tmp"
        folder = self.tmp / "lab"
        folder.mkdir()
        super().__init__(folder)
        self.workspace.root.mkdir(mode=0o700)
        self.workspace.config.write_text(NODES, encoding="utf-8")

    def there(self, path: Path) -> str:
        """A path as the host sees it."""
        return f"/tmp/{path.relative_to(self.tmp)}"

    def run(self, *arguments: str, check: bool = True, timeout: float = 180.0) -> subprocess.CompletedProcess[str]:
        """Run a command there, to its end."""
        where = self.there(self.workspace.root)
        done = self._bed.on("login", *COMMAND, "-w", where, *arguments, timeout=timeout)
        assert not check or done.returncode == 0, f"{arguments}: {done.stdout}\n{done.stderr}\n{self.logs()}"
        return done

    def sweep_file(self, name: str, **kinds: Any) -> Path:
        """A sweep file, with its text where the host sees it."""
        path = super().sweep_file(name, **kinds)
        path.write_text(path.read_text().replace(str(self.folder), self.there(self.folder)))
        return path


@pytest.fixture
def bed() -> Iterator[Bed]:
    folder = Path(tempfile.mkdtemp(prefix="terry-bed-"))
    found = Bed(folder / "bed")
    found.up("login", "seawolf")
    yield found
    found.down()
    shutil.rmtree(folder, ignore_errors=True)


def test_a_node_without_the_workspace_does_its_share_and_survives_a_kill(bed: Bed) -> None:
    place = OnLogin(bed)
    place.run("up", timeout=300.0)
    for name, node in (("near", "login"), ("away", "seawolf")):
        place.run("submit", place.there(place.sweep_file(name, cells="gru", epochs=40)), f"resources.node={node}")
    (job, *_) = place.until_training("away")
    assert place.attempts(job["id"])[-1].device == "seawolf:cpu"
    bed.crash("seawolf")
    place.until(lambda: EndReason.NODE_LOST in place.ends(job["id"]))
    bed.up("login", "seawolf")
    for name in ("near", "away"):
        place.finish(name)
    assert {status["device"] for status in place.status("away")} == {"seawolf:cpu"}
    assert place.weights("away") == place.weights("near")
    run = place.workspace.run(job["id"])
    for path in checkpoints(run.checkpoints):
        load(path)
    newest = max(number for number, _ in run.attempts())
    assert not run.attempt(newest).metrics.read_text().startswith('{"start":-1}'), "it went on, and did not begin anew"
    assert run.loss_curve.exists()
    assert run.attempt(newest).exit.exists()
    left = bed.on("seawolf", "sh", "-c", "ls /tmp/terry-*/away/runs").stdout.split()
    assert not [name for name in left if name.startswith("away-0")], "what is at home is not kept there"
