"""Hosts whose clocks are far apart: from each of them commands tell the truth, and take nothing away."""

from __future__ import annotations

import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest

from terry.cluster.files import lease
from tests.testbed.beds import Bed, why_not
from tests.testbed.lab import Lab

pytestmark = [
    pytest.mark.skipif(bool(why_not()), reason=why_not()),
    pytest.mark.skipif(shutil.which("cc") is None, reason="a C compiler makes the clocks (Debian: gcc)"),
    pytest.mark.timeout(900),
]

HOSTS = ["login", "seawolf", "quattro"]


@pytest.fixture(params=[(-25, 25)], ids=["25 s"])
def lab(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Lab]:
    """The login host's clock is off to one side, the head's to the other, and one is right."""
    bed = Bed(tmp_path / "bed")
    for host, off_s in zip(HOSTS, request.param, strict=False):
        bed.set_clock(host, off_s)
    try:
        bed.up(*HOSTS)
        yield Lab(bed)
    finally:
        bed.down()


def test_from_each_host_the_truth_is_told_and_nothing_is_taken_away(lab: Lab) -> None:
    clocks = {host: float(lab.bed.on(host, "date", "+%s").stdout) for host in HOSTS}
    assert max(clocks.values()) - min(clocks.values()) >= 45, "the clocks are off"
    lab.submit("one", on=HOSTS[1:], epochs=150)
    lab.until(lambda: lab.on_node("one", "seawolf") and lab.on_node("one", "quattro"))
    head, held = lab.head(), lease.read(lab.workspace)
    assert held is not None
    for host in ("quattro", "login", "seawolf"):
        assert "controller on seawolf" in lab.run("status", host=host), host
        assert f"epoch {held.epoch} on seawolf" in lab.run("doctor", host=host, check=False), host
        assert "already up" in lab.run("up", host=host), host
        lab.run("submit", str(lab.bed.shared / "one.yaml"), host=host)
    after = lease.read(lab.workspace)
    assert after is not None
    assert (lab.head(), after.epoch, after.holder) == (head, held.epoch, held.holder), "the same cluster, untouched"
    lab.finish("one")
    assert {len(lab.attempts(job)) for job in lab.trainings("one")} == {1}, "no job was ended"
    lab.run("down")
    assert "controller stopped" in lab.run("status", host="quattro") or not lab.processes("seawolf")
