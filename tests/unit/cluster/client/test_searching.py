"""A search is driven by whoever looks: killed at any time, it chooses what it would have chosen."""

from __future__ import annotations

import random
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from terry.cluster.client import searching
from terry.cluster.client.awaited import Awaited, searches_named
from terry.cluster.client.reader import Reader
from terry.cluster.client.searching import Driver, open_searches, status_of, trials_of
from terry.cluster.controller.loop import Controller
from terry.cluster.core.model import AttemptEnd, EndReason, JobState
from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.search.trial import Outcome
from terry.jobs.submitting.records import SubmissionInfo
from terry.jobs.submitting.submission import SubmitOptions, close_search, prepare_submission, publish
from terry.logs.records.values import unpack
from tests.helpers.world import OWN_CODE, World, device

SEARCH = """\
name: hunt
run:
  entrypoint: whaling:main
  parameters: {lr: 0.1, units: 8}
  resources: {cpus: 1}
sweep:
  random:
    distributions:
      parameters.lr: {log_uniform: [1e-4, 1.0]}
      parameters.units: {integer: [8, 64]}
  search: {method: tpe, trials: 30, parallel: 1}
"""


class Hunt:
    """A search whose runs end when the test says so, each with the figure that its settings deserve."""

    def __init__(self, folder: Path, text: str = SEARCH, cores: float = 8.0) -> None:
        self.world = World(folder, device(cores=cores))
        self.submit(text)
        self.drive_anew()

    def submit(self, text: str, *, extend: bool = False) -> int:
        file = self.world.folder / "hunt.yaml"
        file.write_text(text)
        (self.world.folder / "whaling.py").write_text(OWN_CODE)
        options = SubmitOptions(extend=extend)
        planned = prepare_submission(self.world.workspace, file, (), options, self.world.clock.now(), "ahab")
        publish(self.world.workspace, planned)
        return planned.new

    def drive_anew(self) -> None:
        """Whatever drove it is killed, and another one started."""
        self.driver = Driver(self.world.workspace, Reader(self.world.workspace))

    def kill_controller(self) -> None:
        """The controller is killed, and another one started."""
        self.world.controller = Controller(self.world.workspace, self.world.pool, self.world.clock)
        self.world.controller.recover()

    def settings(self, job_id: str) -> dict[str, Any]:
        line = next(
            line
            for _, folder in self.world.workspace.submissions("hunt")
            for line in msgspec.json.Decoder().decode_lines((folder / "jobs.jsonl").read_bytes())
            if line["job"]["id"] == job_id
        )
        found: dict[str, Any] = unpack(line["config"]["parameters"])
        return found

    def running(self) -> list[str]:
        jobs = self.world.controller.state.jobs.values()
        return [record.job.id for record in jobs if record.state in (JobState.STARTING, JobState.RUNNING)]

    def end(self, job_id: str, **figures: Any) -> None:
        chosen = self.settings(job_id)
        loss = abs(chosen["units"] - 40) / 10 + chosen["lr"]
        result = {"job": job_id, "attempt": 1, "step": 5, "valid_loss": loss, **figures}
        durable.write_json(self.world.workspace.run(job_id).result, result)
        self.world.end(job_id, AttemptEnd(reason=EndReason.SUCCESS, exit_code=0, step=5, first_step_done=True))

    def drive(self, break_in: Callable[[], None] = lambda: None, most: int = 500) -> None:
        """Until the search has ended."""
        for _ in range(most):
            still = self.driver.turn()
            break_in()
            self.world.turn()
            running = self.running()
            for job_id in running:
                self.end(job_id)
                break_in()
            if not still and not self.running():
                return
        raise AssertionError("the search does not end")

    def trials(self) -> list[tuple[int, dict[str, Any], str]]:
        infos = [
            msgspec.json.decode((folder / "submission.json").read_bytes(), type=SubmissionInfo)
            for _, folder in self.world.workspace.submissions("hunt")
        ]
        records = [record for info in infos if info.search for record in info.search.trials]
        return [(r.number, {k: unpack(v) for k, v in r.settings.items()}, r.job) for r in records]


def test_killed_at_random_it_chooses_the_same_trials_in_the_same_order(tmp_path: Path) -> None:
    undisturbed = Hunt(tmp_path / "a")
    undisturbed.drive()
    assert [number for number, _, _ in undisturbed.trials()] == list(range(30))

    disturbed, chance, killed = Hunt(tmp_path / "b"), random.Random(7), 0

    def kill() -> None:
        nonlocal killed
        if chance.random() < 0.7:
            killed += 1
            chance.choice([disturbed.drive_anew, disturbed.kill_controller])()

    disturbed.drive(kill)
    assert killed > 20
    assert disturbed.trials() == undisturbed.trials()


def test_with_several_at_once_no_trial_is_lost_or_doubled(tmp_path: Path) -> None:
    hunt, chance = Hunt(tmp_path, SEARCH.replace("parallel: 1", "parallel: 4")), random.Random(3)

    def kill() -> None:
        if chance.random() < 0.5:
            chance.choice([hunt.drive_anew, hunt.kill_controller])()
        assert len(hunt.running()) <= 4

    hunt.drive(kill)
    assert sorted(number for number, _, _ in hunt.trials()) == list(range(30))
    jobs = hunt.world.controller.state.jobs.values()
    assert len(jobs) == 30
    assert all(record.state is JobState.COMPLETED for record in jobs)


def test_two_that_drive_at_once_ask_for_no_trial_twice(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace("parallel: 1", "parallel: 4"))
    other = Driver(hunt.world.workspace, Reader(hunt.world.workspace))
    hunt.drive(lambda: other.turn() and None)
    assert sorted(number for number, _, _ in hunt.trials()) == list(range(30))


def test_more_trials_go_on_where_it_ended(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace("trials: 30", "trials: 12"))
    hunt.drive()
    first = hunt.trials()
    assert hunt.submit(SEARCH.replace("trials: 30", "trials: 20")) == 0, "the next ones depend on results"
    hunt.drive()
    assert hunt.trials()[:12] == first
    assert [number for number, _, _ in hunt.trials()] == list(range(20))
    whole = Hunt(tmp_path / "whole", SEARCH.replace("trials: 30", "trials: 20"))
    whole.drive()
    assert hunt.trials() == whole.trials()


def test_more_trials_by_an_override_go_on_as_well(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace("trials: 30", "trials: 3"))
    hunt.drive()
    planned = prepare_submission(
        hunt.world.workspace,
        tmp_path / "hunt.yaml",
        ["sweep.search.trials=5"],
        SubmitOptions(),
        hunt.world.clock.now(),
        "ahab",
    )
    publish(hunt.world.workspace, planned)
    hunt.drive()
    assert [number for number, _, _ in hunt.trials()] == list(range(5))


def test_without_a_number_it_uses_what_the_policy_gives(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace(", parallel: 1", ""), cores=3.0)
    for _ in range(20):
        hunt.driver.turn()
        hunt.world.turn()
    states = [record.state for record in hunt.world.controller.state.jobs.values()]
    assert len(hunt.running()) == 3
    assert states.count(JobState.PENDING) == 1, "one waits, for whatever becomes free"
    assert len(states) == 4


def test_a_run_by_hand_joins_and_is_not_run_again(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace("trials: 30", "trials: 8"))
    by_hand = SEARCH.split("sweep:")[0].replace("units: 8", "units: 40")
    assert hunt.submit(by_hand, extend=True) == 1
    hunt.drive()
    jobs = hunt.world.controller.state.jobs
    trials = hunt.trials()
    assert {"parameters.lr": 0.1, "parameters.units": 40} in [chosen for _, chosen, _ in trials]
    assert len(trials) == len(jobs) == 8


def test_one_that_fails_or_has_no_finite_figure_is_told_as_failed(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace("parallel: 1", "parallel: 4"))
    hunt.driver.turn()
    for _ in range(3):
        hunt.world.turn()
    first, second, third, _ = hunt.running()
    hunt.world.fail(first)
    hunt.end(second, valid_loss=float("-inf"))  # not the best of all
    hunt.end(third)
    ((_, trials),) = trials_of(hunt.driver.reader, "hunt")
    by_job = {trial.job: trial.outcome for trial in trials}
    assert (by_job[first], by_job[second], by_job[third]) == (Outcome.failed, Outcome.failed, Outcome.done)


def test_a_search_of_which_all_fail_is_ended_and_says_so(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path)
    for _ in range(40):
        hunt.driver.turn()
        hunt.world.turn()
        for job_id in hunt.running():
            hunt.world.fail(job_id)
    assert open_searches(hunt.world.workspace) == []
    assert len(hunt.world.controller.state.jobs) == 5
    status = status_of(hunt.world.workspace, "hunt")
    assert status is not None
    assert "have all failed" in status.problem


def test_a_point_of_the_grid_of_which_all_fail_does_not_keep_the_search_open(tmp_path: Path) -> None:
    """The others are searched to their end; then nothing more is to come, and nobody waits for it."""
    text = SEARCH.replace("sweep:\n", "sweep:\n  grid: {parameters.cell: [gru, lstm]}\n")
    hunt = Hunt(tmp_path, text.replace("trials: 30", "trials: 7"))
    for _ in range(60):
        hunt.driver.turn()
        hunt.world.turn()
        for job_id in hunt.running():
            hunt.world.fail(job_id) if hunt.settings(job_id)["cell"] == "gru" else hunt.end(job_id)
    assert open_searches(hunt.world.workspace) == []
    found = trials_of(hunt.driver.reader, "hunt")
    assert [len(trials) for _, trials in found] == [5, 7]
    status = status_of(hunt.world.workspace, "hunt")
    assert status is not None
    assert "first trials of parameters.cell=gru have all failed" in status.problem


def test_a_closed_one_asks_for_nothing_more_until_it_is_submitted_again(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path)
    workspace, moment = hunt.world.workspace, hunt.world.clock.now()
    assert close_search(workspace, "hunt", moment)
    assert not close_search(workspace, "hunt", moment), "once"
    assert hunt.driver.turn() == []
    assert len(hunt.trials()) == 1
    hunt.submit(SEARCH)
    assert hunt.driver.turn() == ["hunt"]


def test_a_search_that_is_waited_for_is_waited_for_to_its_last_trial(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path, SEARCH.replace("trials: 30", "trials: 3"))
    reader = Reader(hunt.world.workspace)
    awaited = Awaited(reader, ["hunt-0001"], searches_named(hunt.world.workspace, ["hunt"]))
    alone = Awaited(reader, ["hunt-0001"])
    hunt.world.turn(times=2)
    hunt.end("hunt-0001")
    assert alone.have_ended()
    assert not awaited.have_ended()
    hunt.drive()
    assert awaited.have_ended()
    assert awaited.ids == {"hunt-0001", "hunt-0002", "hunt-0003"}


def test_a_last_trial_that_is_asked_for_while_somebody_looks_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is published between the look at the jobs and the look at the search."""
    hunt = Hunt(tmp_path, SEARCH.replace("trials: 30", "trials: 2"))
    hunt.world.turn(times=2)
    hunt.end("hunt-0001")
    awaited = Awaited(Reader(hunt.world.workspace), ["hunt-0001"], ["hunt"])
    looked = searching.open_searches

    def meanwhile(workspace: WorkspacePaths) -> list[str]:
        monkeypatch.undo()
        hunt.driver.turn()
        return looked(workspace)

    monkeypatch.setattr(searching, "open_searches", meanwhile)
    assert not awaited.have_ended()


def test_the_whole_grid_is_searched_each_point_by_itself(tmp_path: Path) -> None:
    text = SEARCH.replace("sweep:\n", "sweep:\n  grid: {parameters.cell: [gru, lstm]}\n").replace(
        "trials: 30", "trials: 4"
    )
    hunt = Hunt(tmp_path, text)
    hunt.drive()
    found = trials_of(hunt.driver.reader, "hunt")
    assert [study.name for study, _ in found] == ["parameters.cell=gru", "parameters.cell=lstm"]
    assert [len(trials) for _, trials in found] == [4, 4]


def test_a_sweep_without_a_search_has_no_trials(tmp_path: Path) -> None:
    world = World(tmp_path)
    world.submit("cells", 2)
    with pytest.raises(UserError, match="has no search"):
        trials_of(Reader(world.workspace), "cells")


def test_a_file_that_cannot_be_read_any_more_is_told_and_left_alone(tmp_path: Path) -> None:
    hunt = Hunt(tmp_path)
    _, folder = hunt.world.workspace.submissions("hunt")[0]
    (folder / "sweep.yaml").write_text("name: hunt\nrun: [\n")
    assert hunt.driver.turn() == ["hunt"]
    status = status_of(hunt.world.workspace, "hunt")
    assert status is not None
    assert "not valid YAML" in status.problem
