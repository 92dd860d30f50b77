"""Successive halving: the rule, its files, and sweeps of real training processes under it."""

from __future__ import annotations

import json
import random
import signal
from pathlib import Path
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from terry.cluster.agent.evidence import Evidence, judge, read_report
from terry.cluster.core.model import EndReason
from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.process import halving
from terry.jobs.process.checkpoints import checkpoints, read_manifest
from terry.jobs.process.halving import Decided, Halving, Mark
from terry.jobs.submitting.submission import publish
from terry.jobs.sweeps import sweep
from terry.jobs.sweeps.rungs import passed, rungs_before
from terry.jobs.sweeps.spec import HalvingConfig, HalvingUnit
from tests.helpers.job_processes import Attempt, orders, start
from tests.helpers.sweep_files import BASE, planned, sweep_file, workspace

RULE = HalvingConfig(after=1, factor=3)


# the rule


@pytest.mark.parametrize(
    ("at", "number"), [(0, 0), (0.9, 0), (1, 1), (2.999, 1), (3, 2), (1 - 1e-12, 1), (8, 2), (9, 3), (27.5, 4)]
)
def test_rungs_stand_at_powers_of_the_factor(at: float, number: int) -> None:
    assert passed(RULE, at) == number


def test_no_rung_stands_at_the_end_of_a_run() -> None:
    assert rungs_before(RULE, 9) == [1, 3]
    assert rungs_before(RULE, 10) == [1, 3, 9]
    assert rungs_before(RULE, 1) == []
    assert rungs_before(HalvingConfig(after=0.5, factor=2), 3) == [0.5, 1, 2]


@pytest.mark.parametrize(
    ("own", "others", "place", "go_on"),
    [
        (5.0, [], 1, 1),  # the first goes on
        (5.0, [6.0], 1, 1),
        (5.0, [4.0], 2, 1),
        (5.0, [4.0, 3.0, 6.0], 3, 2),
        (5.0, [5.0, 5.0], 1, 1),  # equal ones share a place
        (None, [4.0], 2, 1),  # not finite is worse than all
        (5.0, [None, None], 1, 1),
    ],
)
def test_the_best_third_of_those_at_a_rung_goes_on(
    own: float | None, others: list[float | None], place: int, go_on: int
) -> None:
    found = halving.judge(RULE, step=10, at=1.0, rung=1, own=own, figures=[own, *others])
    assert (found.place, found.go_on, found.runs) == (place, go_on, 1 + len(others))
    assert found.stops is (place > go_on)


# its files


class Sweep:
    """Runs with given losses, as many as one likes, that share a folder."""

    def __init__(self, root: Path, rule: HalvingConfig = RULE) -> None:
        self.root, self.rule = root, rule

    def run(self, job: str, attempt: int = 1, first_attempt: int = 1) -> Halving:
        (self.root / job).mkdir(parents=True, exist_ok=True)
        return Halving(
            self.rule,
            self.root / "rungs",
            self.root / job / "halving.json",
            job_id=job,
            attempt=attempt,
            first_attempt=first_attempt,
        )


def test_the_first_at_a_rung_goes_on_until_better_ones_have_come(tmp_path: Path) -> None:
    place = Sweep(tmp_path)
    slow, good = place.run("a-1"), place.run("a-2")
    assert slow.verdict(10, 1.0, 5.0) is None
    assert good.verdict(10, 1.0, 4.0) is None
    found = slow.verdict(20, 2.0, 4.9)
    assert found is not None
    assert (found.step, found.rung, found.place, found.runs, found.figure) == (20, 1, 2, 2, 5.0)
    assert str(found) == "epoch 2: loss 5 at rung 1 is place 2 of 2 so far, only the best goes on"


def test_what_was_decided_is_decided_again_after_a_crash_whatever_others_do(tmp_path: Path) -> None:
    place = Sweep(tmp_path)
    assert place.run("a-1").verdict(10, 1.0, 5.0) is None
    assert place.run("a-2").verdict(10, 1.0, 4.0) is None
    again = place.run("a-1", attempt=2)
    assert again.verdict(10, 1.0, 5.0) is None, "it went on here, though it would not now"
    stopped = again.verdict(20, 2.0, 5.0)
    assert stopped is not None
    (tmp_path / "rungs" / "0001" / "a-2.json").unlink()
    third = place.run("a-1", attempt=3)
    assert third.verdict(10, 1.0, 5.0) is None
    assert third.verdict(20, 2.0, 5.0) == stopped


def test_from_scratch_nothing_is_decided_and_the_old_figure_is_replaced(tmp_path: Path) -> None:
    place = Sweep(tmp_path)
    place.run("a-1").verdict(10, 1.0, 4.0)
    assert place.run("a-2").verdict(10, 1.0, 5.0) is not None
    fresh = place.run("a-2", attempt=2, first_attempt=2)
    assert fresh.verdict(10, 1.0, 3.0) is None
    mark = msgspec.json.decode((tmp_path / "rungs/0001/a-2.json").read_bytes(), type=Mark)
    assert mark == Mark(figure=3.0, step=10, attempt=2)


def test_nothing_is_written_by_an_attempt_that_was_given_up(tmp_path: Path) -> None:
    def refuse() -> None:
        raise RuntimeError("superseded")

    run = Halving(
        RULE, tmp_path / "rungs", tmp_path / "halving.json", job_id="a-1", attempt=1, first_attempt=1,
        before_writing=refuse,
    )  # fmt: skip
    assert run.verdict(1, 0.5, 5.0) is None, "no rung is passed: nothing to write"
    with pytest.raises(RuntimeError, match="superseded"):
        run.verdict(10, 1.0, 5.0)
    assert list(tmp_path.iterdir()) == []


def test_what_is_no_figure_in_the_folder_is_left_alone(tmp_path: Path) -> None:
    rung = tmp_path / "rungs" / "0001"
    rung.mkdir(parents=True)
    (rung / ".a-7.json.1-00000000.tmp").write_text("{")
    (rung / "a-8.json").write_text('{"figure": "good"}')
    (rung / "notes.txt").write_text("mine")
    assert Sweep(tmp_path).run("a-1").verdict(10, 1.0, 5.0) is None
    decided = msgspec.json.decode((tmp_path / "a-1/halving.json").read_bytes(), type=Decided)
    assert decided == Decided(first_attempt=1, through=10)


@settings(deadline=None, max_examples=30)
@given(losses=st.lists(st.sampled_from([2.0, 3.0, 4.0, 5.0]), min_size=1, max_size=9), seed=st.integers(0, 10**6))
def test_in_any_order_and_with_crashes_the_best_run_comes_to_its_end_and_its_story_is_kept(
    tmp_path_factory: pytest.TempPathFactory, losses: list[float], seed: int
) -> None:
    chance = random.Random(seed)
    place = Sweep(tmp_path_factory.mktemp("order"))
    runs = {f"a-{i}": (loss, place.run(f"a-{i}")) for i, loss in enumerate(losses)}
    epochs = dict.fromkeys(runs, 0)
    ended: dict[str, int] = {}
    while running := [job for job in runs if job not in ended]:
        job = chance.choice(running)
        epochs[job] += 1
        loss, run = runs[job]
        verdict = run.verdict(epochs[job], epochs[job], loss)
        if chance.random() < 0.3:  # it crashed before it could act: another attempt comes to the same step
            runs[job] = (loss, place.run(job, attempt=2))
            assert runs[job][1].verdict(epochs[job], epochs[job], loss) == verdict
        if verdict is not None or epochs[job] == 10:
            ended[job] = epochs[job]
    best = min(losses)
    assert all(ended[job] == 10 for job, (loss, _) in runs.items() if loss == best)
    for job, end in ended.items():  # whoever ended early was worse than one that went on
        assert end == 10 or runs[job][0] > best


# the sweep file


def test_a_rule_is_a_part_of_each_run(tmp_path: Path) -> None:
    text = BASE + "sweep:\n  grid: {training.seed: [1, 2]}\n  halving: {after: 2, factor: 4}\n"
    expanded = sweep.load(sweep_file(tmp_path, text))
    assert [run.typed.halving for run in expanded.runs] == [HalvingConfig(after=2, factor=4)] * 2
    without = sweep.load(sweep_file(tmp_path, text), ["sweep.halving=null"])
    assert {run.identity for run in expanded.runs}.isdisjoint(run.identity for run in without.runs)
    assert [notice for notice in expanded.notices if "halving" in notice] == [
        "halving: runs are judged after epoch 2, 8; of those at a rung the best 1 in 4 go on"
    ]
    assert not [notice for notice in without.notices if "halving" in notice]


def test_members_that_may_end_early_are_spoken_of(tmp_path: Path) -> None:
    text = BASE + "sweep: {halving: {}}\nensembles: {all: {}, chosen: {best: 1}}\n"
    notices = " ".join(sweep.load(sweep_file(tmp_path, text)).notices)
    assert "the ensemble all early" in notices
    assert "chosen" not in notices


@pytest.mark.parametrize(
    ("override", "message"),
    [
        ("sweep.halving.factor=1", "must be a whole number, 2 or more, not 1"),
        ("sweep.halving.factor=third", "must be a whole number, 2 or more, not 'third'"),
        ("sweep.halving.after=0", "must be a number, above 0, not 0"),
        ("sweep.halving.unit=epochs", "unknown value 'epochs'"),
        ("sweep.halving.faktor=3", "did you mean 'factor'"),
        ("sweep.halving.after=10", "the longest has 10 epochs"),
        ("halving.factor=3", "belongs below `sweep:`"),
        ("run.halving={}", "belongs below `sweep:`"),
        ("sweep.grid.halving.factor=[2, 3]", "belongs below `sweep:`"),
    ],
)
def test_mistakes_are_named(tmp_path: Path, override: str, message: str) -> None:
    file = sweep_file(tmp_path, BASE)
    with pytest.raises(UserError) as caught:
        sweep.load(file, [override])
    assert message in str(caught.value)


def test_runs_of_other_data_or_rules_are_not_compared() -> None:
    groups = {
        halving.group_of(rule, code, data)
        for rule in (RULE, HalvingConfig(after=2), HalvingConfig(unit=HalvingUnit.step))
        for code in ("terry.jobs.train:main", "my.own:main")
        for data in ("", "comments-1a2b3c", "reviews-1a2b3c")
    }
    assert len(groups) == 18


# real processes

SWEEP = """\
name: demo
datasets:
  small: {source: comments.csv, column: body, split: {train: 0.8, valid: 0.2, test: 0}}
run:
  data: {batch_size: 4, bptt: 7}
  model: {hidden_size: 16, embedding_size: 8, dropout: 0.2}
  training: {epochs: 5, log_every: 5}
  checkpoint: {every: 0.05}
  resources: {cpus: 1}
sweep:
  grid: {optimizer.lr: [0.02, 0.0001, 0.00001]}
  halving: {after: 1, factor: 2}
"""
WORDS = ["the", "whale", "swam", "away", "and", "nobody", "saw", "it", "again", "ship", "sea", "old", "captain"]


def prepared(folder: Path, text: str = SWEEP) -> tuple[WorkspacePaths, dict[str, dict[str, Any]]]:
    """A submitted sweep whose data is prepared, and the orders of its jobs."""
    folder.mkdir(exist_ok=True)
    submission = planned(folder, text)
    choose = random.Random(1)
    rows = [" ".join(choose.choices(WORDS, k=9)) + "." for _ in range(120)]
    (folder / "comments.csv").write_text("id,body\n" + "".join(f"{i},{row}\n" for i, row in enumerate(rows)))
    place = workspace(folder)
    publish(place, submission)
    found = orders(place, "demo")
    assert start(found["demo-prepare-small"]).wait() == 0
    return place, found


def finished(attempt: Attempt) -> dict[str, Any]:
    assert attempt.wait() == 0, (attempt.folder / "stderr.log").read_text()
    found: dict[str, Any] = json.loads(attempt.run.result.read_bytes())
    return found


def weights(attempt: Attempt) -> str:
    return read_manifest(checkpoints(attempt.run.checkpoints)[-1]).files["model.safetensors"].sha256


def test_poor_runs_end_early_with_their_reason_and_a_checkpoint(tmp_path: Path) -> None:
    place, found = prepared(tmp_path)
    good = finished(start(found["demo-0001"]))
    assert (good["reason"], good["epoch"]) == ("completed", 5)
    for job in ("demo-0002", "demo-0003"):
        attempt = start(found[job])
        poor = finished(attempt)
        assert poor["reason"] == "pruned"
        assert poor["step"] * 5 == good["step"], "at the end of the first epoch"
        assert poor["checkpoint"] == f"step-{poor['step']:09d}-a0001"
        early = read_report(place.run(job).attempt(1).early)
        assert early is not None
        end = judge(Evidence(status=0, early=early))
        assert (end.reason, end.step) == (EndReason.STOPPED_EARLY, poor["step"])
        assert end.message == poor["stopped_early"]
        assert "at rung 1 is place 2 of" in end.message or "at rung 1 is place 3 of" in end.message
    assert not place.run("demo-0001").attempt(1).early.exists()


def test_side_by_side_the_best_of_them_goes_on(tmp_path: Path) -> None:
    place, found = prepared(tmp_path)
    attempts = [start(found[f"demo-000{i}"]) for i in (3, 2, 1)]
    results = [finished(attempt) for attempt in attempts]
    assert results[2]["reason"] == "completed"
    (group,) = (place.sweep("demo") / "rungs").iterdir()
    assert sorted(path.name for path in (group / "0001").iterdir()) == [f"demo-000{i}.json" for i in (1, 2, 3)]


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
def test_killed_or_not_it_ends_early_at_the_same_step_with_the_same_weights(tmp_path: Path, number: int) -> None:
    text = SWEEP.replace("after: 1", "after: 3").replace("[0.02, 0.0001, 0.00001]", "[0.02, 0.0001]")
    ends = []
    for name, kills in (("alone", ()), ("hurt", (5, 30, 60))):
        _, found = prepared(tmp_path / name, text)
        finished(start(found["demo-0001"]))
        for i, step in enumerate(kills, 1):
            attempt = start(found["demo-0002"], i)
            attempt.kill_at(step, number)
            attempt.wait()
        last = start(found["demo-0002"], len(kills) + 1)
        ends.append((finished(last), weights(last)))
    for key in ("reason", "step", "model_sha256", "best_loss", "stopped_early"):
        assert ends[0][0][key] == ends[1][0][key], key
    assert ends[0][0]["reason"] == "pruned"
    assert ends[0][1] == ends[1][1]


# seeds of one configuration


class Seeded(Sweep):
    """Configurations of two seeds each: `a-1` and `a-2` are of `a`."""

    def run(self, job: str, attempt: int = 1, first_attempt: int = 1) -> Halving:
        (self.root / job).mkdir(parents=True, exist_ok=True)
        return Halving(
            self.rule, self.root / "rungs", self.root / job / "halving.json",
            job_id=job, attempt=attempt, first_attempt=first_attempt,
            siblings=halving.Siblings(configuration=job.split("-")[0], seeds=2),
        )  # fmt: skip


def test_configurations_are_judged_by_the_mean_of_their_seeds_and_end_together(tmp_path: Path) -> None:
    place = Seeded(tmp_path)
    lucky, unlucky = place.run("a-1"), place.run("a-2")
    good = [place.run("b-1"), place.run("b-2")]
    assert lucky.verdict(10, 1.0, 3.0) is None
    assert [run.verdict(10, 1.0, 4.0) for run in good] == [None, None]
    assert lucky.verdict(20, 2.0, 3.0) is None, "its other seed is not there yet: the configuration is not judged"
    found = unlucky.verdict(10, 1.0, 6.0)
    assert found is not None
    assert (found.figure, found.place, found.runs, found.go_on, found.seeds) == (4.5, 2, 2, 1, 2)
    assert str(found) == (
        "epoch 1: its configuration's 2 seeds have a mean loss 4.5 at rung 1, place 2 of 2 configurations so far, "
        "only the best goes on"
    )
    for other in ("c", "d"):  # worse ones come, so that two of four would go on now
        for run in (place.run(f"{other}-1"), place.run(f"{other}-2")):
            run.verdict(10, 1.0, 9.0)
    last = lucky.verdict(30, 2.5, 2.0)
    assert last is not None
    assert last.stops
    assert (last.step, last.figure, last.runs) == (30, 4.5, 2), "one has ended by this, and so does the other"


def test_a_seed_that_diverged_makes_its_configuration_the_worst(tmp_path: Path) -> None:
    place = Seeded(tmp_path)
    assert [place.run("a-1").verdict(10, 1.0, 1.0), place.run("b-1").verdict(10, 1.0, 4.0)] == [None, None]
    assert place.run("b-2").verdict(10, 1.0, 4.0) is None
    found = place.run("a-2").verdict(10, 1.0, float("nan"))
    assert found is not None
    assert (found.figure, found.place) == (None, 2)


def test_seeds_begun_anew_are_not_ended_by_what_was_said_of_them_before(tmp_path: Path) -> None:
    place = Seeded(tmp_path)
    for job, loss in (("b-1", 4.0), ("b-2", 4.0), ("a-1", 5.0)):
        place.run(job).verdict(10, 1.0, loss)
    assert place.run("a-2").verdict(10, 1.0, 5.0) is not None
    assert place.run("a-1").verdict(20, 2.0, 5.0) is not None
    assert place.run("a-1", attempt=2, first_attempt=2).verdict(10, 1.0, 1.0) is not None, "its sibling has ended"
    fresh = place.run("a-2", attempt=2, first_attempt=2)
    assert fresh.verdict(10, 1.0, 1.0) is None or fresh.verdict(20, 1.5, 1.0) is not None


def test_waiting_for_others_is_decided_once(tmp_path: Path) -> None:
    place = Seeded(tmp_path)
    for job in ("b-1", "b-2"):
        place.run(job).verdict(10, 1.0, 4.0)
    assert place.run("a-1").verdict(10, 1.0, 5.0) is None
    assert place.run("a-2").verdict(10, 1.0, 5.0) is not None
    assert place.run("a-1", attempt=2).verdict(10, 1.0, 5.0) is None, "it went on here before it was killed"
    assert place.run("a-1", attempt=2).verdict(20, 2.0, 5.0) is not None


def test_runs_that_differ_in_their_seed_alone_are_of_one_configuration(tmp_path: Path) -> None:
    text = BASE + "seeds: [3, 9]\nsweep:\n  grid: {model.cell: [gru, lstm]}\n  halving: {after: 2}\n"
    runs = [run.typed for run in sweep.load(sweep_file(tmp_path, text)).runs]
    names = [halving.configuration_of(run) for run in runs]
    assert names[0] == names[1] != names[2] == names[3]
    assert [run.seeds for run in runs] == [[3, 9]] * 4
