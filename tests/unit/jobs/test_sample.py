"""Evaluating and sampling real runs by the command line, the Python API, and as jobs."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
import torch

from terry.cluster.cli.main import run as terry
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.process.reading import valid_batches
from terry.jobs.submitting.submission import publish
from terry.jobs.trained.members import EnsembleMembers, find_members, named
from terry.models import Ensemble, load
from terry.models.evaluate import evaluate
from tests.helpers.job_processes import orders, start
from tests.helpers.sweep_files import planned, workspace
from tests.helpers.trained_runs import SWEEP, train, write_text

PREPARED = ("demo-prepare-long", "demo-prepare-short")


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> WorkspacePaths:
    """Runs 1, 2 and 4 are trained, 3 is not; 4 has another vocabulary."""
    return train(tmp_path_factory.mktemp("trained"), (*PREPARED, "demo-0001", "demo-0002", "demo-0004"))


def load_members(place: WorkspacePaths) -> EnsembleMembers:
    """Who takes part in the ensemble `three`."""
    return find_members(place, named(place, "three"))


def told(place: WorkspacePaths, capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = terry(["-w", str(place.root), *arguments])
    out, err = capsys.readouterr()
    return code, out, err


def document(place: WorkspacePaths, capsys: pytest.CaptureFixture[str], *arguments: str) -> Any:
    code, out, err = told(place, capsys, "--json", *arguments)
    assert code == 0, err
    return json.loads(out)


def test_a_run_evaluates_to_what_its_training_measured(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(place, capsys, "evaluate", "demo-0001")
    trained = json.loads(place.run("demo-0001").result.read_bytes())
    assert found["loss"] == pytest.approx(trained["best_loss"], rel=1e-6)
    assert found["perplexity"] == pytest.approx(trained["perplexity"], rel=1e-6)


@pytest.mark.parametrize("split", ["valid", "test"])
def test_one_stream_predicts_every_token_once_the_first_from_the_boundary(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str], split: str
) -> None:
    """By hand: the whole text in one go behind its boundary, the losses of all tokens added up."""
    found = document(place, capsys, "evaluate", "demo-0001", "--split", split, "--streams", "1", "--device", "cpu")
    single = load(place.root, "demo-0001")
    part = single.ensemble_members.dataset().split(split)
    (model,) = single.members
    tokens = torch.tensor([part.boundary, *part.tokens.tolist()])
    with torch.no_grad():
        total, _, _ = model.loss(tokens[None, :-1], tokens[None, 1:], None, model.initial_state(1))
    assert found["tokens"] == len(part.tokens)
    assert found["loss"] == pytest.approx(float(total) / len(part.tokens), rel=1e-5)
    assert found["reading"].startswith("one stream, every token once")
    four = document(place, capsys, "evaluate", "demo-0001", "--split", split, "--streams", "4", "--device", "cpu")
    assert four["tokens"] == 4 * ((len(part.tokens) + 1) // 4 - 1)
    code, _, err = told(place, capsys, "evaluate", "demo-0001", "--split", split, "--streams", "9999999")
    assert (code, "too little text" in err) == (2, True)
    assert told(place, capsys, "evaluate", "demo-0001", "--streams", "0")[0] == 2


def test_an_ensemble_is_evaluated_by_the_members_finished_so_far(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str]
) -> None:
    found = document(place, capsys, "evaluate", "three", "--split", "test")
    assert (found["took_part"], found["unfinished"], found["split"]) == (2, ["demo-0003"], "test")
    assert [row["members"] for row in found["first"]] == [1, 2]
    code, out, err = told(place, capsys, "evaluate", "three")
    assert code == 0
    assert "2 of 3 members; not finished: demo-0003" in err
    assert "below the mean of its members" in out


def test_the_job_of_the_ensemble_does_the_same(place: WorkspacePaths, capsys: pytest.CaptureFixture[str]) -> None:
    order = orders(place, "demo")["demo-ensemble-three"]
    attempt = start(order)
    assert attempt.wait() == 0
    result = json.loads(attempt.run.result.read_bytes())
    found = document(place, capsys, "evaluate", "three", "--device", "cpu")
    assert result["perplexity"] == found["perplexity"]
    assert result["valid_loss"] == found["loss"]


@pytest.mark.parametrize(
    "options",
    [
        ("--average", "geometric"),
        ("--weights", "loss"),
        ("--members", "1"),
        ("--snapshots", "2"),
        ("--snapshots", "2", "--average-weights"),
    ],
)
def test_other_ways_to_average(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str], options: tuple[str, ...]
) -> None:
    found = document(place, capsys, "evaluate", "three", *options)
    expected = {"--members": 1}.get(options[0], 4 if options == ("--snapshots", "2") else 2)
    assert len(found["members"]) == expected
    assert sum(row["weight"] for row in found["members"]) == pytest.approx(1)
    if "loss" in options:
        best = min(found["members"], key=lambda row: row["perplexity"])
        assert best["weight"] == max(row["weight"] for row in found["members"])


def test_samples_go_to_a_file_of_their_own(place: WorkspacePaths, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("sample", "demo-0001", "--count", "5", "--unit", "sentence", "--min-words", "3", "--random-seed", "4")
    code, out, err = told(place, capsys, *arguments)
    assert code == 0, err
    lines = out.splitlines()
    assert len(lines) == 5
    assert "5 sentences of at least 3 words in " in err
    assert not any("<" in line for line in lines), "no boundary and no unknown word is shown"
    assert told(place, capsys, *arguments)[1] == out, "the same seed writes the same"
    files = list(place.run("demo-0001").samples.glob("*-sentence-seed4-*.txt"))
    assert len(files) == 2
    assert all("-demo-0001-sentence-" in file.name for file in files)
    text = files[0].read_text()
    assert out in text
    assert text.startswith("# model: demo-0001 (demo-0001 step-")


def test_json_lines_have_probabilities(place: WorkspacePaths, capsys: pytest.CaptureFixture[str]) -> None:
    code, out, _ = told(place, capsys, "sample", "three", "--count", "4", "--format", "jsonl", "--check-copies")
    assert code == 0
    records = [json.loads(line) for line in out.splitlines()]
    assert len(records) == 4
    assert all(r["model"] == "three" and r["log_probability"] < 0 and r["longest_copied_run"] >= 0 for r in records)


def test_copies_are_counted_beside_those_of_held_out_text(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str]
) -> None:
    arguments = ("sample", "three", "--count", "40", "--unit", "sentence", "--check-copies")
    found = document(place, capsys, *arguments)
    runs = [one["longest_copied_run"] for one in found["samples"]]
    assert found["copied_longest_run"] == max(runs)
    assert found["copied_texts"] == 40
    assert found["held_out_whole"] == 1, "the sentences of held-out paragraphs all stand in other paragraphs, too"
    assert 0 < found["copied_whole"] <= 1
    assert repr(load(place.root, "three")) == "<three: 2 of 3 members; not finished: demo-0003; on cpu>"
    assert found["held_out_texts"] == 2 * load(place.root, "three").ensemble_members.dataset().split(
        "valid"
    ).examples + (2 * load(place.root, "three").ensemble_members.dataset().split("test").examples)
    _, _, err = told(place, capsys, *arguments)
    assert found["copies"] in err
    assert "held-out texts: 100%" in err


def test_every_text_goes_on_from_the_seed(place: WorkspacePaths, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ("sample", "three", "--count", "6", "--unit", "sentence", "--seed-text", "The white whale")
    samples = document(place, capsys, *arguments)["samples"]
    assert len(samples) == 6
    assert all(one["text"].startswith("the white whale") for one in samples)


def test_as_a_job(place: WorkspacePaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("terry.cluster.lifecycle.up.ensure_up", lambda *_, **__: False)  # the process is started below
    job = document(place, capsys, "sample", "three", "--count", "3", "--job")["job"]
    number = place.submissions("demo")[-1][0]
    attempt = start(orders(place, "demo", number)[job])
    assert attempt.wait() == 0
    result = json.loads(attempt.run.result.read_bytes())
    lines = (place.root / result["file"]).read_text().splitlines()
    here = document(place, capsys, "sample", "three", "--count", "3", "--device", "cpu")["samples"]
    assert [one["text"] for one in here] == [json.loads(line)["text"] for line in lines]


@pytest.mark.parametrize(
    ("arguments", "expected"),
    [
        (("sample", "nobody"), "no job, sweep, ensemble or glob is 'nobody'"),
        (("evaluate", "nobody"), "no job, sweep, ensemble or glob is 'nobody'"),
        (("sample", "demo-prepare-long"), "no training is among demo-prepare-long"),
        (("evaluate", "demo"), "must share one vocabulary: demo-0001 has that of long"),
        (("sample", "demo-0003"), "demo-0003 has not begun"),
        (("sample", "three", "--temperature", "0"), "temperature must be more than 0 and finite, not 0"),
        (("sample", "three", "--temperature", "-1"), "temperature must be more than 0 and finite, not -1"),
        (("sample", "three", "--seed-text", "the xyzzy whales"), "vocabulary of 23 lacks: 'xyzzy', 'whales' (it has"),
        (
            ("sample", "three", "--unit", "story"),
            "knows no end of a story; units that it can write: sentence, paragraph",
        ),
        (("sample", "three", "--min-words", "9", "--max-words", "3"), "at least 9 and at most 3 words"),
        (("sample", "three", "--top-p", "2"), "top-p must be"),
        (("evaluate", "three", "--average-weights"), "averaging weights needs `snapshots` of 2 or more"),
        (("evaluate", "three", "--device", "tpu:7"), "'tpu:7' cannot be used here"),
    ],
)
def test_bad_input(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str], arguments: tuple[str, ...], expected: str
) -> None:
    code, out, err = told(place, capsys, *arguments)
    assert (code, out) == (2, ""), err
    assert expected in err
    assert "Traceback" not in err


def test_a_run_without_a_checkpoint(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = train(tmp_path, ("demo-prepare-long", "demo-0001"))
    for path in place.run("demo-0001").checkpoints.iterdir():
        path.rename(place.root / path.name)
    code, _, err = told(place, capsys, "sample", "demo-0001")
    assert code == 2
    assert "demo-0001 has no checkpoint yet" in err


def test_a_damaged_checkpoint_is_named(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    place = train(tmp_path, ("demo-prepare-long", "demo-0001"))
    for path in place.run("demo-0001").checkpoints.glob("*/model.safetensors"):
        data = bytearray(path.read_bytes())
        data[-1] ^= 1
        path.write_bytes(data)
    for verb in ("sample", "evaluate"):
        code, out, err = told(place, capsys, verb, "demo-0001")
        assert (code, out) == (2, ""), err
        assert "demo-0001 cannot be read: " in err
        assert "model.safetensors" in err


def test_of_two_ensembles_with_one_name_none_is_guessed(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    write_text(tmp_path)
    place = workspace(tmp_path)
    for name in ("demo", "other"):
        publish(place, planned(tmp_path, SWEEP.replace("name: demo", f"name: {name}")))
    code, _, err = told(place, capsys, "evaluate", "three")
    assert code == 2
    assert "several sweeps have an ensemble 'three'" in err
    assert "(demo-ensemble-three, other-ensemble-three)" in err
    code, _, err = told(place, capsys, "evaluate", "other-ensemble-three")
    assert "none of the 3 members of three has finished yet" in err


def test_what_is_said_of_who_takes_part(place: WorkspacePaths, capsys: pytest.CaptureFixture[str]) -> None:
    steps = json.loads(place.run("demo-0001").result.read_bytes())["step"]
    assert f"demo-0001: its weights after step {steps}\n" in told(place, capsys, "sample", "demo-0001")[2]
    loss = {job: json.loads(place.run(job).result.read_bytes())["best_loss"] for job in ("demo-0001", "demo-0002")}
    better, worse = sorted(loss, key=loss.__getitem__)
    words = f"three: 1 of 3 members; not finished: demo-0003; others are better than {worse}\n"
    assert words in told(place, capsys, "sample", "three", "--members", "1")[2]
    assert load(place.root, "three", best=1).ensemble_members.first.id == better


def test_members_that_do_not_fit_into_memory(
    place: WorkspacePaths, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    """Evaluated in turns, to the same figures; refused where all are needed at each word."""
    usual = document(place, capsys, "evaluate", "three")
    monkeypatch.setattr("terry.jobs.trained.members._free_memory", lambda _: 100)
    assert load_members(place).at_once("cpu") == 1
    assert document(place, capsys, "evaluate", "three") == usual
    code, out, err = told(place, capsys, "sample", "three")
    assert (code, out) == (2, "")
    assert "2 members need about 0.0 GB on cpu" in err
    assert "--members N" in err


def test_three_lines_of_python(place: WorkspacePaths) -> None:
    three = load(place.root, "three")
    texts = three.write(3, unit="sentence", random_seed=9)
    assert texts == load(place.root, "three").write(3, unit="sentence", random_seed=9)
    assert isinstance(three.model, Ensemble)
    assert three.evaluate("valid").found.ensemble.perplexity > 1
    both = Ensemble([*load(place.root, "demo-0001").members, *load(place.root, "demo-0002").members])
    log_p, _ = both.log_probabilities(torch.tensor([[1, 5]]), both.initial_state(1))
    assert log_p.exp().sum(-1).flatten().tolist() == pytest.approx([1, 1], abs=1e-5)
    assert isinstance(both.members[0].vocabulary_sha256, str)
    assert load(place.root, "three", best=1, weights="loss").ensemble_members.outvoted
    assert len(load(place.root, "demo-0001", snapshots=2).members) == 2
    with pytest.raises(ValueError, match="members of an ensemble must share one vocabulary"):
        Ensemble([*load(place.root, "demo-0001").members, *load(place.root, "demo-0004").members])
    for wrong, words in (
        ({"average": "median"}, "Invalid enum value 'median'"),
        ({"best": 0}, ">= 1"),
        ({"averge": "geometric"}, "unknown settings: averge; there are best, average"),
        ({"average_weights": True}, "of 2 or more"),
    ):
        with pytest.raises(ValueError, match=words):
            load(place.root, "three", **wrong)
    with pytest.raises(ValueError, match="unknown settings: temprature"):
        three.write(1, temprature=2)
    with pytest.raises(ValueError, match="no run, ensemble or sweep 'nobody'"):
        load(place.root, "nobody")


def test_loaded_weights_are_those_of_the_best_checkpoint(place: WorkspacePaths) -> None:
    single = load(place.root, "demo-0002")
    (model,) = single.members
    batches = valid_batches(single.ensemble_members.first.config, single.ensemble_members.dataset().split("valid"))
    assert batches is not None
    found = evaluate(model, batches.epoch(), "cpu")
    assert found is not None
    trained = json.loads(place.run("demo-0002").result.read_bytes())
    assert found.loss == pytest.approx(trained["best_loss"], rel=1e-7)
