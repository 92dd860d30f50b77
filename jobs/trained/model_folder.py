"""A trained model as a folder that opens elsewhere: weights, configuration, vocabulary, a card, a loader of 40 lines.

The loader needs PyTorch and safetensors, and nothing of Terry; it gives the same probabilities of the next word.
"""

from __future__ import annotations

import json
import os
import secrets
import shutil
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import msgspec

from terry.cluster.errors import UserError
from terry.cluster.files import durable
from terry.jobs.process import checkpoints
from terry.jobs.trained.members import TrainedRun
from terry.models.config import CELLS

WEIGHTS, CONFIG, VOCABULARY, LOADER, CARD = (
    *("model.safetensors", "config.json", "vocabulary.json", "load_model.py", "README.md"),
)

_LOADER = '''\
"""Opens the model in this folder with PyTorch and safetensors alone.

    python load_model.py the whale        # the likeliest next tokens, with their probabilities
"""

import json
import sys
from pathlib import Path

import torch
from safetensors.torch import load_file


class Model:
    def __init__(self, folder=Path(__file__).parent):
        self.config = json.loads((Path(folder) / "config.json").read_text(encoding="utf-8"))
        self.tokens = json.loads((Path(folder) / "vocabulary.json").read_text(encoding="utf-8"))["tokens"]
        self.ids = {token: i for i, token in enumerate(self.tokens)}
        self.weights = load_file(Path(folder) / "model.safetensors")
        kind = {"rnn": torch.nn.RNN, "gru": torch.nn.GRU, "lstm": torch.nn.LSTM}[self.config["cell"]]
        options = {"nonlinearity": self.config["nonlinearity"]} if self.config["cell"] == "rnn" else {}
        self.layers = []
        for depth in range(self.config["layers"]):
            own = {k: self.weights[f"layers.{depth}.{k}"] for k in ("weight_ih", "weight_hh", "bias_ih", "bias_hh")}
            layer = kind(own["weight_ih"].shape[1], own["weight_hh"].shape[1], batch_first=True, **options)
            layer.load_state_dict({f"{name}_l0": tensor for name, tensor in own.items()})
            self.layers.append(layer.eval())

    @torch.no_grad()
    def log_probabilities(self, ids):
        """Log-probabilities (nats) of the token after each of `ids`, (len(ids), vocabulary), from a state of zeros."""
        x = torch.tensor([ids])
        embedding = self.weights.get("embedding")
        x = torch.nn.functional.one_hot(x, len(self.tokens)).float() if embedding is None else embedding[x]
        for layer in self.layers:
            x, _ = layer(x)
        decoder = self.weights.get("output_weight", embedding)
        return torch.log_softmax(x[0] @ decoder.t() + self.weights["output_bias"], dim=-1)


if __name__ == "__main__":
    model = Model()
    given = [model.config["boundary"], *(model.ids.get(word, 0) for word in sys.argv[1:])]  # 0: unknown
    best = model.log_probabilities(given)[-1].exp().topk(10)
    for probability, token in zip(best.values.tolist(), best.indices.tolist()):
        print(f"{probability:.4f}  {model.tokens[token]}")
'''


def write_model_folder(run: TrainedRun, target: Path, figures: Mapping[str, Any], boundary: int) -> bool:
    """Write it whole, or not at all; False where the same model is there already. Raises UserError, OSError.

    figures: what `results` says of the run; boundary: id of the token that begins a text.
    """
    if run.config.model.cell not in CELLS:
        text = (
            f"{run.id} has a cell of your own, {run.config.model.cell}: a folder without your code could not be opened"
        )
        raise UserError(text)
    try:
        checkpoints.load_model(run.chosen)  # verified
        weights = (run.chosen / checkpoints.MODEL).read_bytes()
    except (checkpoints.BadCheckpoint, OSError) as error:
        raise UserError(f"{run.id} cannot be read: {error}") from error
    config = {**msgspec.to_builtins(run.config.model), "vocabulary_size": run.vocabulary_size, "boundary": boundary}
    config |= {"run": run.id, "checkpoint": run.chosen.name, "data": run.dataset.name}
    files = {
        WEIGHTS: weights,
        CONFIG: json.dumps(config, indent=2).encode(),
        VOCABULARY: (run.dataset / VOCABULARY).read_bytes(),
        LOADER: _LOADER.encode(),
        CARD: "\n".join(card(run, figures)).encode(),
    }
    if target.exists() and not (target.is_dir() and not any(target.iterdir())):
        if all((target / n).is_file() and (target / n).read_bytes() == content for n, content in files.items()):
            return False
        raise UserError(f"{target} is there already, and holds something else; give a new folder")
    passing = target.with_name(f".{target.name}.{os.getpid()}-{secrets.token_hex(4)}.tmp")
    passing.mkdir(parents=True)
    try:
        for name, content in files.items():
            durable.write_bytes(passing / name, content, 0o644)
        passing.replace(target)
    except BaseException:
        shutil.rmtree(passing, ignore_errors=True)
        raise
    return True


def card(run: TrainedRun, figures: Mapping[str, Any]) -> Iterator[str]:
    """The model card, in Markdown."""
    model, training, optimizer = run.config.model, run.config.training, run.config.optimizer
    yield from ("---", "library_name: pytorch", "pipeline_tag: text-generation", "---", "")
    yield from (
        f"# {run.id}",
        "",
        f"A recurrent language model: {model.layers} x {model.cell}, {model.hidden_size} units,",
    )
    yield from (f"a vocabulary of {run.vocabulary_size:,} tokens.", "", "## What it reached", "")
    yield from ("| figure | value |", "|---|---|")
    for name, value in figures.items():
        if isinstance(value, int | float | str):
            yield f"| {name} | {f'{value:.6g}' if isinstance(value, float) else value} |".replace("\n", " ")
    yield from ("", "One run: how much such figures differ between seeds, they do not say.", "", "## What it is", "")
    yield from (f"- data: `{run.dataset.name}`, cut into words as `vocabulary.json` says",)
    yield from (f"- optimizer: {optimizer.name}, learning rate {optimizer.lr:g}", f"- seed: {training.seed}")
    yield from (f"- weights: those of `{run.chosen.name}`", "", "## How to open it", "")
    yield from ("PyTorch and safetensors are all that it needs:", "", "```python")
    yield from ("from load_model import Model", "", "model = Model()")
    yield from ('ids = [model.config["boundary"], *(model.ids.get(word, 0) for word in "the whale".split())]',)
    yield from ("print(model.log_probabilities(ids)[-1].exp().topk(5))", "```", "")
