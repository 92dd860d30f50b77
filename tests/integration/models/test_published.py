"""Published settings and figures: the files in examples/papers, and the losses of WildML's tutorial."""

from __future__ import annotations

import itertools
import math
import os
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import msgspec
import numpy as np
import pytest

from terry.cluster.files.paths import WorkspacePaths
from terry.data_prep.batches import ExampleBatches, StreamBatches
from terry.data_prep.config import Clean, DatasetConfig, SplitConfig, Splitter, Tokenizer
from terry.data_prep.dataset import Dataset, Split
from terry.data_prep.prepare import prepare
from terry.jobs.process.reading import train_batches
from terry.jobs.submitting.submission import SubmitOptions, prepare_submission
from terry.jobs.sweeps import sweep
from terry.jobs.sweeps.spec import RunConfig
from terry.models.config import TrainingConfig
from terry.models.evaluate import evaluate
from terry.models.trainer import Trainer
from tests.helpers import toy

PAPERS = Path(__file__).parents[3] / "examples" / "papers"
FILES = tuple(f"ptb/ptb.{part}.txt" for part in ("train", "valid", "test")) + tuple(
    f"wikitext-2/wiki.{part}.tokens" for part in ("train", "valid", "test")
)
WILDML = (8.987, 8.976, 8.960, 8.930, 8.862, 6.914, 6.302, 6.015, 5.834, 5.711)


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    """The papers' files, each beside a little text in the layout of its own."""
    for path in PAPERS.glob("*.yaml"):
        (tmp_path / path.name).write_text(path.read_text())
    for name in FILES:
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_text(" the <unk> fell N points \n mr. <unk> said the dow rose N points \n" * 40)
    (tmp_path / "reddit-comments-2015-08.csv").write_text("body\n" + '"I like it. You do not."\n' * 60)
    return tmp_path


def config(path: Path) -> RunConfig:
    (run,) = sweep.load(path).runs
    return msgspec.convert(run.config, RunConfig)


@pytest.mark.parametrize("path", sorted(PAPERS.glob("*.yaml")), ids=lambda path: path.stem)
def test_given_the_data_every_paper_can_be_submitted_and_takes_steps(folder: Path, path: Path) -> None:
    path = folder / path.name
    workspace = WorkspacePaths(folder / "runs")
    planned = prepare_submission(workspace, path, [], SubmitOptions(), datetime(2026, 1, 1, tzinfo=UTC), "ahab")
    assert planned.new > 0
    run = config(path)
    hooks = toy.Recorder()
    split = sample_split()
    trainer = Trainer(
        run.model,
        run.optimizer,
        TrainingConfig(max_steps=2, log_every=1),
        50,
        train_batches(run, split),
        None,
        "cpu",
        hooks,
    )
    trainer.run()
    assert hooks.records[0].loss == pytest.approx(math.log(50), rel=0.1)
    assert len(hooks.records) == 2


def sample_split() -> Split:
    """120 sentences of 3 tokens, 50 kinds of them."""
    tokens = np.random.default_rng(1).integers(4, 50, 120 * 4).astype(np.uint16)
    tokens[3::4] = 1
    return Split(name="train", tokens=tokens, offsets=np.arange(0, 481, 4, dtype=np.int64), boundary=1)


def test_words_are_read_as_in_the_paper(folder: Path) -> None:
    settings = sweep.load(folder / "zaremba2014-small.yaml").datasets["ptb"]
    assert (settings.splitter, settings.tokenizer, settings.clean) == (Splitter.lines, Tokenizer.whitespace, [])
    dataset = Dataset.open(prepare(settings, folder / "datasets", name="ptb", base=folder).path)
    assert set(dataset.vocabulary.tokens[4:]) == {"the", "fell", "N", "points", "mr.", "said", "dow", "rose"}
    first = dataset.vocabulary.decode(dataset.split("train").tokens[:15])
    assert " ".join(first) == ("the <unk> fell N points <sentence> mr. <unk> said the dow rose N points <sentence>")
    batches = StreamBatches(dataset.split("valid").tokens, batch_size=1, bptt=20)
    assert batches.tokens_per_epoch == 40 * 15 - 1


@pytest.fixture(scope="session")
def shared() -> Path:
    """The folder of large test texts: TERRY_TEST_DATA, else ../shared/data beside the checkout."""
    found = Path(os.environ.get("TERRY_TEST_DATA", Path(__file__).parents[4] / "shared" / "data"))
    if not found.is_dir():
        pytest.skip(f"the test texts are missing: {found} (set TERRY_TEST_DATA)")
    return found


def test_the_losses_of_wildmls_tutorial_are_approached(folder: Path, shared: Path) -> None:
    run = config(folder / "wildml2015-rnn.yaml")
    data = DatasetConfig(
        source=str(shared / "reddit-comments-sample.csv"),
        column="body",
        clean=[Clean.control],
        max_examples=100,
        split=SplitConfig(train=1, valid=0, test=0),
    )
    dataset = Dataset.open(prepare(data, folder / "datasets", name="hundred", base=folder).path)
    split = dataset.split("train")
    same = ExampleBatches(split.tokens, split.offsets, boundary=split.boundary, batch_size=20, shuffle=False)
    hooks = toy.Recorder()
    trainer = Trainer(
        run.model, run.optimizer, replace(run.training, threads=1), 8000, train_batches(run, split), same, "cpu", hooks
    )  # fmt: skip
    first = evaluate(trainer.model, same.epoch(0, 0), "cpu")
    assert first is not None
    trainer.run()
    losses = [first.loss, *(record.loss for record in hooks.validations)]
    assert losses[0] == pytest.approx(WILDML[0], abs=0.01)
    assert losses[9] < 6.3
    assert all(after < before for before, after in itertools.pairwise(losses))
