"""A run's folder belongs to one run, whatever was restored or removed: ids, attempts, `doctor`."""

from __future__ import annotations

import json
import shutil
from pathlib import Path

import pytest

from terry.cluster.client.doctor import examine
from terry.cluster.core import events as e
from terry.cluster.core.model import EndReason, Job, JobState
from terry.cluster.files import inbox, run_folder
from terry.cluster.files.journal import Journal
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.submitting.submission import publish
from tests.faults.agent_harness import LIGHT, AgentHarness
from tests.helpers.controller_bench import Bench
from tests.helpers.job_processes import orders, start
from tests.helpers.queue_values import at, job_line, make_job
from tests.helpers.sweep_files import BASE, NOW, planned, workspace
from tests.unit.jobs.submitting.test_submission import GRID, ids, lines

OTHER = "f" * 64


def leave_folder(place: WorkspacePaths, job_id: str, identity: str) -> Path:
    """What a run leaves: a specification, an attempt, a checkpoint."""
    run = place.run(job_id)
    run.attempt(1).root.mkdir(parents=True)
    (run.checkpoints / "step-000000100-a0001").mkdir(parents=True)
    run.spec.write_text(f"job: {job_id}\nconfig:\n  text: 'a\n    hashes:\n    b'\nhashes:\n  identity: {identity}\n")
    run.attempt(1).launch.write_text(json.dumps({"order": {"identity": identity}}))
    return run.root


def identities(place: WorkspacePaths, number: int) -> dict[str, str]:
    return {line.job.id: line.job.identity for line in lines(place, number)}


def queue_up(place: WorkspacePaths, *jobs: Job, submission: int = 1) -> None:
    journal = Journal.open(place.journal, epoch=1)
    journal.append([e.Submitted(time=at(0), job=job) for job in jobs])
    journal.append([e.SubmissionTaken(time=at(0), sweep=jobs[0].sweep, number=submission, request="x")])
    journal.commit()
    journal.close()


# ids


def test_an_id_whose_folder_is_there_is_not_given_again(tmp_path: Path) -> None:
    """Yesterday's queue and sweeps were restored: today's runs are there, and nobody knows them."""
    place = workspace(tmp_path)
    publish(place, planned(tmp_path, GRID))
    leave_folder(place, "demo-0005", OTHER)
    leave_folder(place, "demo-0009", OTHER[1:] + "e")
    publish(place, planned(tmp_path, GRID.replace("[rnn, gru]", "[rnn, gru, lstm]")))
    assert ids(lines(place, 2)) == ["demo-0010", "demo-0011"]


def test_an_id_of_the_queue_is_not_given_again(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    queue_up(place, make_job("demo-0007", sweep="demo"), make_job("demo-prepare-comments", sweep="demo"), submission=3)
    assert publish(place, planned(tmp_path, GRID)) == 4, "a submission's number, too"
    assert ids(lines(place, 4))[:3] == ["demo-prepare-comments-2", "demo-0008", "demo-0009"]


def test_runs_whose_queue_was_lost_get_their_own_folders_again(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    publish(place, planned(tmp_path, GRID))
    before = identities(place, 1)
    for job_id, identity in before.items():
        leave_folder(place, job_id, identity)
    shutil.rmtree(place.sweeps)
    shutil.rmtree(place.queue)
    backwards = GRID.replace("[rnn, gru]", "[lstm, gru, rnn]")
    publish(place, planned(tmp_path, backwards))
    after = identities(place, 1)
    assert {job_id: after[job_id] for job_id in before} == before
    assert after.keys() - before.keys() == {"demo-0005", "demo-0006"}


# attempts


@pytest.mark.parametrize("own", [True, False])
def test_no_attempt_goes_on_in_the_folder_of_another_run(tmp_path: Path, *, own: bool) -> None:
    """The last line of defence: its agent should have set the folder aside."""
    text = BASE
    if own:
        (tmp_path / "lab.py").write_text(
            "def main(ctx):\n    ctx.finish({'went on from': str(ctx.load_checkpoint())})\n"
        )
        text = "name: demo\nrun: {entrypoint: 'lab:main'}\n"
    place = workspace(tmp_path)
    publish(place, planned(tmp_path, text))
    folder = leave_folder(place, "demo-0001", OTHER)
    order = orders(place, "demo")["demo-0001"]
    attempt = start({**order, "inputs": {}}, 2)
    assert attempt.wait() == 1
    report = json.loads((attempt.folder / "error.json").read_bytes())
    assert "is the folder of another run (ffffffff)" in report["message"]
    assert not (folder / "result.json").exists()


def test_a_line_that_became_another_jobs_is_not_run(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    publish(place, planned(tmp_path, BASE))
    attempt = start({**orders(place, "demo")["demo-0001"], "identity": OTHER})
    assert attempt.wait() == 1
    assert "is another one than the queue has" in json.loads((attempt.folder / "error.json").read_bytes())["message"]


def test_an_agent_sets_anothers_folder_aside_before_it_begins(tmp_path: Path) -> None:
    harness = AgentHarness(tmp_path / "ws", runtime=LIGHT)
    try:
        folder = leave_folder(harness.workspace, "s-1", OTHER)
        harness.launch("failing_jobs:before_the_first_step", identity="0" * 64)
        assert harness.ended().reason is EndReason.EXCEPTION, "attempt 1 of the other run is not this one's"
        assert not (folder / "checkpoints").exists()
        assert (folder.with_name("s-1.aside-ffffffff") / "checkpoints" / "step-000000100-a0001").is_dir()
        harness.launch("failing_jobs:before_the_first_step", attempt=2, identity="0" * 64)
        harness.ended(attempt=2)
        assert [number for number, _ in harness.run().attempts()] == [1, 2], "its own folder stays"
    finally:
        harness.close()


# the controller


def test_the_controller_sets_anothers_folder_aside_and_says_so(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    folder = leave_folder(bench.workspace, "s-1", OTHER)
    leave_folder(bench.workspace, "s-2", "0" * 64)
    (bench.workspace.submission("s", 1)).mkdir(parents=True)
    text = "\n".join(job_line(job_id) for job_id in ("s-1", "s-2")) + "\n"
    (bench.workspace.submission("s", 1) / "jobs.jsonl").write_text(text)
    note = bench.ask(inbox.Submit(sweep="s"))
    assert note == "added 2 jobs; the folder of another run called s-1 was set aside as s-1.aside-ffffffff"
    aside = folder.with_name("s-1.aside-ffffffff")
    assert (aside / "checkpoints" / "step-000000100-a0001").is_dir(), "nothing of it is lost"
    assert (bench["s-1"].attempt, bench["s-2"].attempt) == (1, 2), "its own folder is gone on in"
    assert bench["s-1"].state is JobState.STARTING


def test_a_second_folder_of_the_same_run_is_set_aside_beside_the_first(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    for expected in ("s-1.aside-ffffffff", "s-1.aside-ffffffff-2"):
        leave_folder(place, "s-1", OTHER)
        assert Path(run_folder.claim(place.run("s-1"), "0" * 64)).name == expected
    assert run_folder.claim(place.run("s-1"), "0" * 64) == ""


def test_a_job_with_an_id_that_the_queue_has_for_another_is_named(tmp_path: Path) -> None:
    bench = Bench(tmp_path)
    bench.submit("s-1")
    bench.submit("s-1", "s-2", number=2, identity="1" * 64)
    assert bench["s-1"].job.identity == "0" * 64
    notes = "".join(bench.controller.state.requests.values())
    assert "s-1 is left out, for the queue has another job of this id" in notes


# doctor


def test_doctor_compares(tmp_path: Path) -> None:
    place = workspace(tmp_path)
    queue_up(place, make_job("s-1"), make_job("s-2"))
    place.sweeps.mkdir()
    place.inbox.mkdir()
    leave_folder(place, "s-1", OTHER)
    leave_folder(place, "s-2", "0" * 64)
    wrong = [finding.text for finding in examine(place, NOW) if not finding.good and finding.what == "runs"]
    assert [text for text in wrong if "folder of another run" in text] == [
        text for text in wrong if "s-1 is the folder of another run (ffffffff)" in text
    ]
    assert any("s-1 is the folder of another run" in text for text in wrong)
