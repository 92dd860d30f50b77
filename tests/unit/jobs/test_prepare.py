"""The job that prepares a data set, in a process of its own."""

from __future__ import annotations

import json
from pathlib import Path

import msgspec

from terry.cluster.agent.evidence import ErrorReport
from terry.cluster.core.model import EndReason
from terry.data_prep.dataset import Dataset
from terry.jobs.submitting.submission import publish
from tests.helpers.job_processes import Attempt, orders, start
from tests.helpers.sweep_files import planned, workspace

SENTENCES = "".join(f'{i},"Whale number {i} swam away. Nobody saw it again; the sea was calm."\n' for i in range(60))

TEXT = """\
name: demo
datasets:
  small: {source: comments.csv, column: body, vocabulary_from: large}
  large: {source: comments.csv, column: body, max_examples: 100}
run: {data: {dataset: small}}
"""


def prepare(tmp_path: Path, name: str, text: str = TEXT, *, sentences: str = SENTENCES) -> Attempt:
    submission = planned(tmp_path, text)
    (tmp_path / "comments.csv").write_text("id,body\n" + sentences)
    publish(workspace(tmp_path), submission)
    attempt = start(orders(workspace(tmp_path), "demo")[name])
    attempt.said = list(attempt.progress())
    return attempt


def test_the_result_names_the_data_set(tmp_path: Path) -> None:
    attempt = prepare(tmp_path, "demo-prepare-small")
    assert attempt.wait() == 0
    result = json.loads(attempt.run.result.read_bytes())
    dataset = Dataset.open(workspace(tmp_path).root / result["folder"])
    assert not Path(result["folder"]).is_absolute(), "a workspace may be moved"
    assert dataset.manifest.hash == result["hash"]
    assert result["splits"]["train"]["tokens"] == len(dataset.split("train").tokens) > 0
    assert result["built"] is True
    assert any(said["phase"] == "reading" for said in attempt.said)


def test_another_sweep_finds_it_prepared(tmp_path: Path) -> None:
    first = prepare(tmp_path, "demo-prepare-small")
    assert first.wait() == 0
    first.run.result.unlink()
    again = start(orders(workspace(tmp_path), "demo")["demo-prepare-small"], 2)
    assert again.wait() == 0
    assert json.loads(again.run.result.read_bytes())["built"] is False


def test_text_of_which_nothing_is_left_is_bad_input(tmp_path: Path) -> None:
    attempt = prepare(tmp_path, "demo-prepare-small", sentences="1,[deleted]\n")
    assert attempt.wait() == 1
    report = msgspec.json.decode((attempt.folder / "error.json").read_bytes(), type=ErrorReport)
    assert report.reason is EndReason.BAD_INPUT
