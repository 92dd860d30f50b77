"""Trained models for notebooks: opened by name, to sample from and to evaluate.

from terry.models import load
terry = load("terry-runs", "terry", device="cuda")
print(*terry.write(5, unit="sentence", random_seed=7), sep="\\n")
"""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path
from typing import Any

import msgspec
import torch

from terry.cluster.errors import UserError
from terry.cluster.files.paths import WorkspacePaths
from terry.jobs.sweeps.model_jobs import SampleAsked
from terry.jobs.sweeps.spec import EvaluatedSplit
from terry.jobs.trained.evaluation import EvaluationReport, evaluate
from terry.jobs.trained.members import EnsembleMembers, changed, find_members, named
from terry.jobs.trained.writing import Sample, Writer
from terry.models.language_model import LanguageModel

__all__ = ["Trained", "load"]


class Trained:
    """An ensemble, or one run as an ensemble of one, with its vocabulary: what `load` gives."""

    def __init__(self, ensemble_members: EnsembleMembers, device: torch.device | str) -> None:
        self.ensemble_members = ensemble_members
        self.model = ensemble_members.ensemble(device)
        self._dataset = ensemble_members.dataset()
        self.vocabulary = self._dataset.vocabulary
        self._device = device

    def __repr__(self) -> str:
        return f"<{self.ensemble_members.describe()}; on {self._device}>"

    @property
    def members(self) -> tuple[LanguageModel, ...]:
        """The models."""
        return self.model.members

    def samples(self, count: int = 1, **settings: Any) -> Iterable[Sample]:
        """Texts with their probabilities, as they come. settings: fields of SampleAsked. Raises ValueError."""
        unknown = sorted(settings.keys() - set(SampleAsked.__struct_fields__))
        if unknown:
            raise UserError(
                f"unknown settings: {', '.join(unknown)}; there are {', '.join(SampleAsked.__struct_fields__)}"
            )
        given = {"mixture": msgspec.to_builtins(self.ensemble_members.mixture), "count": count, **settings}
        try:
            asked = msgspec.convert(given, SampleAsked)
        except msgspec.ValidationError as error:
            raise UserError(str(error)) from None
        return Writer(self.model, self._dataset, asked).samples()

    def write(self, count: int = 1, **settings: Any) -> list[str]:
        """Texts. settings: unit, min_words, temperature, seed_text, ... as of `terry-cluster sample`."""
        return [sample.text for sample in self.samples(count, **settings)]

    def evaluate(self, split: str = "valid") -> EvaluationReport:
        """Perplexities of each member and of the ensemble on a part of the data."""
        return evaluate(self.ensemble_members, EvaluatedSplit(split), self._device)


def load(
    workspace: Path | str,
    selector: str,
    device: torch.device | str = "cpu",
    **changes: Any,
) -> Trained:
    """Open a run's or an ensemble's model from a workspace, on any device.

    selector: a run's id, an ensemble's or a sweep's name. changes: average, weights, best, snapshots, average_weights,
    instead of what the ensemble says in its sweep file. Raises UserError, a ValueError.
    """
    place = WorkspacePaths(Path(workspace).expanduser().resolve())
    return Trained(find_members(place, changed(named(place, selector), **changes)), device)
