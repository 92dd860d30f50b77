"""The power is cut at each fsync of what is done: nothing that was acknowledged is lost, nothing is there in part."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest

from terry.cluster.files import lease
from tests.faults.forgetful_disk import Disk, Forgets, after_cut
from tests.faults.power_cuts import SCENARIOS, Scenario, cuts
from tests.faults.recording_disk import recording_disk

#: So many cuts of each kind; benchmarks/power_cuts.py makes all.
MOST = 60
FILE = 0o100644


@pytest.fixture(autouse=True)
def no_second_looks(monkeypatch: pytest.MonkeyPatch) -> None:
    """A lease that is not on this disk comes no more: only SMB hides one for a while."""
    monkeypatch.setattr(lease, "_LOOK_AGAIN_S", 0.0)


@pytest.fixture(scope="module", params=SCENARIOS, ids=lambda scenario: scenario.name)
def done(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> tuple[Scenario, list[list[object]]]:
    """A scenario, and all that it did to its disk."""
    scenario: Scenario = request.param
    with recording_disk(tmp_path_factory.mktemp("power") / "disk") as disk:
        scenario.work(disk)
        return scenario, disk.log()


@pytest.mark.timeout(600)
@pytest.mark.parametrize("forgets", Forgets)
def test_whatever_the_disk_forgets_nothing_is_lost(done: tuple[Scenario, list[list[object]]], forgets: Forgets) -> None:
    scenario, log = done
    found = [*itertools.islice(cuts(log, scenario, forgets, seed=7, most=MOST), MOST)]
    assert len(found) >= 30
    assert [(number, wrong) for number, wrong in found if wrong] == []


# the model of a disk itself


def left(disk: Disk, folder: Path, forgets: Forgets, seeds: int = 1) -> set[tuple[tuple[str, bytes], ...]]:
    """What may be there after a cut."""
    found = set()
    for seed in range(seeds):
        place = folder / f"{forgets}{seed}"
        after_cut(disk, place, forgets, seed)
        found.add(tuple((p.name, p.read_bytes()) for p in sorted(place.rglob("*")) if p.is_file()))
    return found


def test_what_was_not_fsynced_is_gone(tmp_path: Path) -> None:
    disk = Disk()
    node = disk.make("/a", FILE)
    disk.write(node, 0, b"new")
    assert left(disk, tmp_path / "1", Forgets.STRICT) == {()}
    disk.fsync(disk.root)
    assert left(disk, tmp_path / "2", Forgets.STRICT) == {(("a", b""),)}, "the name, and nothing in it"
    disk.fsync(node)
    assert left(disk, tmp_path / "3", Forgets.STRICT) == {(("a", b"new"),)}
    disk.rename("/a", "/b")
    assert left(disk, tmp_path / "4", Forgets.STRICT) == {(("a", b"new"),)}


def test_pages_and_names_come_in_any_order(tmp_path: Path) -> None:
    disk = Disk()
    node = disk.make("/a", FILE)
    disk.write(node, 0, b"a" * 4096 + b"b" * 4096)
    disk.make("/b", FILE)
    found = left(disk, tmp_path, Forgets.REORDERED, seeds=60)
    contents = {dict(files).get("a") for files in found}
    assert bytes(4096) + b"b" * 4096 in contents, "the second page without the first"
    assert any("b" in dict(files) and "a" not in dict(files) for files in found), "the second name without the first"


def test_a_rename_within_a_folder_is_never_half_done(tmp_path: Path) -> None:
    disk = Disk()
    disk.fsync(disk.make("/a", FILE))
    disk.fsync(disk.root)
    disk.rename("/a", "/b")
    for forgets in Forgets:
        assert all(len(files) == 1 for files in left(disk, tmp_path / forgets, forgets, seeds=20))
