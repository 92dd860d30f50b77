"""`change`, `note`, `tag`, `star`, `archive`, `rm`, `du`, `clean`, and jobs that were mended and submitted again."""

from __future__ import annotations

from pathlib import Path

import pytest

from terry.cluster.core.model import JobState
from tests.helpers.world import World, busy
from tests.unit.cluster.conftest import Terry


def done(world: World, runs: int = 2) -> None:
    """So many runs, all completed, each with two checkpoints: the older one is the best."""
    world.submit("cells", runs)
    world.turn()
    while any(not r.state.is_final for r in world.controller.state.jobs.values()):
        world.turn(times=3)
        for record in list(world.controller.state.active()):
            for step, best in ((100, "true"), (200, "false")):
                folder = world.workspace.run(record.job.id).checkpoints / f"step-{step:09d}-a0001"
                folder.mkdir(parents=True, exist_ok=True)
                (folder / "model.safetensors").write_bytes(b"w" * 1000)
                (folder / "MANIFEST.json").write_text(f'{{"best": {best}, "files": {{}}}}')
            world.finish(record.job.id, loss=2.0 + int(record.job.id[-1]))
    world.turn()


def names(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir()) if folder.is_dir() else []


# change


def test_change_what_waits(terry: Terry, world: World) -> None:
    """Priority, limits, resources: the next attempt has them."""
    world.submit("cells", 1, hold=True)
    world.turn()
    said = terry("change", "cells", "priority=9", "resources.cpus=2", "time_limit=2h", "retry.crash=10")
    assert said.out.startswith("asked to change 1 job: cells-0001")
    world.turn()
    record = world.record("cells-0001")
    assert record.priority == 9
    assert (record.job.resources.cpus, record.job.time_limit_s, record.job.retry.crash) == (2.0, 7200.0, 10)
    terry("change", "cells", "time_limit=null")
    terry("resume", "cells")
    world.turn(times=3)
    record = world.record("cells-0001")
    assert record.job.time_limit_s is None
    assert record.allocation is not None
    assert record.allocation.share == 2.0
    assert "keeps the" not in terry("submit", "cells.yaml", "resources.cpus=2", "retry.crash=10", "priority=9").out


def test_on_a_device_only_patience_changes(terry: Terry, world: World) -> None:
    """What would need another process is refused by name."""
    busy(world)
    running = next(r.job.id for r in world.controller.state.active())
    said = terry("change", running, "resources.cpus=2")
    assert said.out.startswith("nothing to change")
    assert f"`terry-cluster pause {running}` first" in said.out
    terry("change", running, "retry.crash=7", "priority=2")
    world.turn()
    assert world.record(running).job.retry.crash == 7
    assert world.record(running).priority == 2
    assert "completed already" in terry("change", "cells-0001", "time_limit=2h").out


@pytest.mark.parametrize(
    ("setting", "words"),
    [
        ("training.epochs=3", "`terry-cluster extend`"),
        ("model.hidden_size=3", "decides what comes out of a run"),
        ("resources.gpus=7", "at most 1"),
        ("time_limit=0", "more than 0"),
        ("threads=0", "1 or more"),
        ("resources=big", "must be"),
        ("retry.crashes=3", "did you mean 'retry.crash'"),
    ],
)
def test_what_cannot_be_changed_is_refused(terry: Terry, world: World, setting: str, words: str) -> None:
    """With what would be right; nothing is asked."""
    world.submit("cells", 1, hold=True)
    world.turn()
    said = terry("change", "cells", setting)
    assert said.code == 2
    assert words in said.err
    assert not names(world.workspace.inbox / "new")


def test_priority_of_what_is_there(terry: Terry, world: World) -> None:
    """`submit --priority` holds for jobs that are there, too, and says for which not."""
    busy(world)
    said = terry("submit", "cells.yaml", "--priority", "5")
    assert "priority 5 for what is there: cells-0002" in said.out
    assert "priority left as it was: cells-0001, cells-0003 (ended already)" in said.out
    world.turn()
    assert {world.record(f"cells-000{n}").priority for n in (2, 4, 5, 6, 7, 8)} == {5}


# notes, tags, stars; how they are found


def test_notes_and_tags_are_shown_and_found(terry: Terry, world: World) -> None:
    """In `status`, `results`, `explain`, and as selectors."""
    done(world, 3)
    terry("note", "cells-0002", "the", "one in  figure 3")
    terry("tag", "loss<4.5", "paper", "gru")
    terry("star", "cells-0003")
    world.turn()
    assert terry("note", "cells").out == "cells-0002: the one in figure 3\n"
    assert terry("tag", "cells").out == "cells-0001: gru paper\ncells-0002: gru paper\n"
    row = next(line for line in terry("status").out.splitlines() if line.startswith("cells-0002"))
    assert "#gru #paper the one in figure 3" in row
    assert "the one in figure 3" in terry("explain", "cells-0002").out
    rows = {row["id"]: row for row in terry("results", "--format", "json").json}
    assert (rows["cells-0002"]["note"], rows["cells-0002"]["tags"]) == ("the one in figure 3", "gru paper")
    assert rows["cells-0003"]["starred"] is True
    for selector, expected in {
        "tag:paper": [1, 2],
        "is:starred": [3],
        "loss<=4": [1, 2],
        "setting:training.seed=3": [3],
        "setting:seed=3": [3],
        "setting:model.cell=g*": [1, 2, 3],
        "setting:optimizer.lr=1e-3": [1, 2, 3],
    }.items():
        found = [job["id"] for job in terry("status", "--json", selector).json]
        assert found == [f"cells-000{n}" for n in expected], selector
    assert [j["id"] for j in terry("status", "--json", "tag:paper", "loss>3.5").json] == ["cells-0002"]
    terry("tag", "--remove", "cells-0001", "paper")
    terry("note", "--remove", "cells-0002")
    world.turn()
    assert world.record("cells-0001").marks.tags == ("gru",)
    assert world.record("cells-0002").marks.note == ""


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("tag", "cells", "two words"), "is none"),
        (("note", "cells", "x" * 501), "at most 500"),
        (("status", "loss<small"), "no number"),
        (("status", "is:stared"), "did you mean 'starred'"),
        (("status", "setting:cell"), "KEY=VALUE"),
    ],
)
def test_bad_words_are_told(terry: Terry, world: World, words: tuple[str, ...], error: str) -> None:
    """Exit code 2."""
    world.submit("cells", 1)
    said = terry(*words)
    assert (said.code, error in said.err) == (2, True), said


# put away


def test_archived_jobs_are_out_of_sight(terry: Terry, world: World) -> None:
    """Until they are named, asked for, brought back, or tried again."""
    busy(world)
    assert "cells-0004 (not ended" in terry("archive", "cells-0001", "cells-0004").out
    terry("archive", "cells-0003")
    world.turn()
    shown = [job["id"] for job in terry("status", "--json").json]
    assert "cells-0001" not in shown
    assert len(shown) == 6
    assert "0/6" in terry("status").out
    assert terry("status", "cells-0001").out.count("cells-0001") == 1
    assert [job["id"] for job in terry("status", "--json", "is:archived").json] == ["cells-0001", "cells-0003"]
    assert terry("results").out == ""
    terry("unarchive", "cells-0001")
    terry("resubmit", "cells-0003")
    world.turn()
    assert len(terry("status", "--json").json) == 8


def test_rm_removes_files_and_keeps_the_story(terry: Terry, world: World) -> None:
    """After a yes; the id is never given again, and the run can be made again."""
    done(world)
    folder = world.workspace.run("cells-0001").root
    asked = terry("rm", "cells-0001")
    assert (asked.code, "nobody is there to be asked" in asked.err) == (2, True)
    document = terry("rm", "--json", "cells-0001").json
    assert (document["jobs"], document["requests"]) == (["cells-0001"], [])
    assert folder.is_dir()
    said = terry("rm", "--yes", "cells-0001")
    assert "1 job: cells-0001" in said.out
    world.turn()
    world.controller.turn(0.0)
    assert not folder.exists()
    assert [job["id"] for job in terry("status", "--json").json] == ["cells-0002"]
    assert "attempt 1 on" in terry("explain", "cells-0001").out
    assert "removed already" in terry("rm", "-y", "cells-0001").out
    assert "resubmit --from-scratch cells-0001" in terry("submit", "cells.yaml").out
    terry("resubmit", "--from-scratch", "cells-0001")
    world.turn(times=3)
    assert world.record("cells-0001").state is JobState.RUNNING
    assert world.record("cells-0001").attempt == 2
    assert world.record("cells-0001").first_attempt == 2


def test_rm_leaves_what_is_needed(terry: Terry, world: World) -> None:
    """Running jobs stay."""
    busy(world)
    said = terry("rm", "-y", "cells")
    assert "cancel` ends them" in said.out
    world.turn()
    assert {i for i, r in world.controller.state.jobs.items() if r.marks.removed_at} == {"cells-0001", "cells-0003"}


def test_clean_keeps_what_was_asked(terry: Terry, world: World) -> None:
    """The best checkpoint, and all of a run with a star."""
    done(world, 3)
    terry("star", "cells-0003")
    world.turn(31 * 86400.0)
    nothing = terry("clean", "--older-than", "100000d", "-y")
    said = terry("clean", "--older-than", "0.000001s", "--keep", "best", "-y")
    assert nothing.out == "nothing to remove\n"
    assert "2 checkpoints of 2 jobs: cells-0001, cells-0002" in said.out
    assert "cells-0003 (starred)" in said.out
    world.turn()
    left = {n: names(world.workspace.run(f"cells-000{n}").checkpoints) for n in (1, 2, 3)}
    assert left[1] == left[2] == ["step-000000100-a0001"]
    assert len(left[3]) == 2
    assert world.workspace.run("cells-0001").result.is_file()
    assert terry("clean", "--older-than", "0.000001s", "-y").out.endswith("nothing to remove\n")
    assert terry("clean", "--older-than", "soon").code == 2


def test_du_says_what_is_where(terry: Terry, world: World) -> None:
    """The largest first."""
    done(world)
    (world.workspace.run("cells-0002").root / "large").write_bytes(b"x" * 10_000)
    jobs = terry("du", "--json").json["jobs"]
    assert [job["id"] for job in jobs] == ["cells-0002", "cells-0001"]
    assert jobs[0]["total"]["bytes"] - jobs[1]["total"]["bytes"] >= 10_000
    assert "CHECKPOINTS" in terry("du", "cells").out


def test_a_folder_removed_by_hand_is_told_of(terry: Terry, world: World) -> None:
    """And the run can be made again, after a question where it was completed."""
    import shutil

    done(world)
    shutil.rmtree(world.workspace.run("cells-0001").root)
    told = terry("doctor").out
    assert "1 completed job without a folder: cells-0001" in told
    assert "`terry-cluster resubmit --from-scratch cells-0001` makes it again" in told
    said = terry("resubmit", "--from-scratch", "cells-0001")
    assert (said.code, "say --yes" in said.err) == (2, True)
    assert "asked to resubmit 1 job" in terry("resubmit", "--from-scratch", "--yes", "cells-0001").out
    world.turn(times=3)
    assert world.record("cells-0001").state is JobState.RUNNING


# mended, and submitted again


def test_a_mended_run_replaces_the_one_that_failed(terry: Terry, world: World, tmp_path: Path) -> None:
    """`wait`, counts, rows look at the new one; `explain` links both; the advice is a command that works."""
    world.submit("cells", 2)
    world.turn(times=3)
    world.fail("cells-0001")
    world.turn(times=2)
    world.fail("cells-0002")
    world.turn(times=2)
    assert terry("wait", "cells").code == 1
    advice = next(line for line in terry("explain", "cells-0001").out.splitlines() if line.startswith("advice:"))
    command = advice.partition("`terry-cluster ")[2].partition("`")[0].split()
    (tmp_path / "whaling.py").write_text("def main(ctx): return None\n")
    said = terry(*command)
    assert (said.code, "2 new jobs" in said.out) == (0, True), said
    world.turn(times=3)
    for job_id in ("cells-0003", "cells-0004"):
        world.finish(job_id)
        world.turn(times=2)
    assert terry("wait", "cells").code == 0
    assert terry("wait", "cells-0001").code == 0
    assert [job["id"] for job in terry("status", "--json").json] == ["cells-0003", "cells-0004"]
    assert "2/2" in terry("status").out
    assert "by cells-0003" in terry("explain", "cells-0001").out
    assert "replaces   cells-0001" in terry("explain", "cells-0003").out
    assert "nothing to resubmit" in terry("resubmit", "state:failed").out
    assert [job["replaced_by"] for job in terry("status", "--json", "is:replaced").json] == ["cells-0003", "cells-0004"]
    assert terry("watch", "--until-done").code == 0


# longer


def test_extend_says_what_it_cannot_do(terry: Terry, world: World) -> None:
    """A training of somebody's own code; a setting that is no length; what has not ended."""
    busy(world)
    assert "no training of Terry's own" in terry("extend", "cells-0001", "training.epochs=20").out
    assert terry("extend", "cells-0001", "training.epochs=20").code == 2
    assert "another setting makes another run" in terry("extend", "cells-0001", "model.hidden_size=3").err
    assert "not ended: it is running" in terry("extend", "cells-0002", "training.epochs=20").out
    assert "say which jobs and what" in terry("extend", "cells").err
