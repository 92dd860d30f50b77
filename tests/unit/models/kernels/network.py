"""Small networks, and what the kernels make of them, for the tests of this folder."""

from __future__ import annotations

import copy
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
import torch
from torch import Tensor

from terry.models.config import Input, ModelConfig, Nonlinearity
from terry.models.kernels import library
from terry.models.kernels.library import LEVELS, Library
from terry.models.kernels.network import Network
from terry.models.language_model import LanguageModel, ModelState

FOUND = library.find()
needs_kernels = pytest.mark.skipif(isinstance(FOUND, str), reason=f"no compiled kernels: {FOUND}")


def at_level(level: int) -> Library:
    """The kernels at a level that this processor has."""
    loaded = library._load(library._FOLDER / library.LIBRARY_NAME)
    assert not isinstance(loaded, str), loaded
    return Library(loaded, level)


def levels() -> list[int]:
    """All that this processor has."""
    return [] if isinstance(FOUND, str) else list(range(min(FOUND.level + 1, len(LEVELS))))


@contextmanager
def threads(count: int) -> Iterator[None]:
    """torch's number of threads, which the kernels take as theirs."""
    before = torch.get_num_threads()
    torch.set_num_threads(count)
    try:
        yield
    finally:
        torch.set_num_threads(before)


class Case:
    """A model with random weights, and one batch for it."""

    def __init__(
        self, config: ModelConfig, vocabulary: int, shape: tuple[int, int], seed: int, *, masked: bool
    ) -> None:
        torch.manual_seed(seed)
        self.model = LanguageModel(config, vocabulary)
        with torch.no_grad():
            for parameter in self.model.parameters():
                parameter.mul_(1.5)
        self.inputs, self.targets = torch.randint(vocabulary, shape), torch.randint(vocabulary, shape)
        self.mask = torch.rand(shape) < 0.7 if masked else None
        if self.mask is not None:
            self.mask[0, 0] = True
        self.state: ModelState = tuple(
            tuple(torch.randn_like(part) * 0.3 for part in layer) for layer in self.model.initial_state(shape[0])
        )
        self.scale = 1 / self.inputs.numel()

    def native(self, level: int, step: int = 1) -> tuple[Tensor, ModelState, dict[str, Tensor]]:
        """Loss, state and gradients by the kernels."""
        network = Network(self.model, at_level(level), seed=7)
        loss, state = network.loss(
            self.inputs, self.targets, self.mask, self.state, backward=True, step=step, scale=self.scale
        )
        return loss, state, network.gradients

    def exact(self) -> tuple[float, ModelState, dict[str, Tensor]]:
        """The same in float64 by autograd."""
        model = copy.deepcopy(self.model).double().train()
        state = tuple(tuple(part.double() for part in layer) for layer in self.state)
        total, penalty, after = model.loss(self.inputs, self.targets, self.mask, state)
        torch.autograd.backward(total * self.scale + penalty)
        gradients = {name: p.grad for name, p in model.named_parameters() if p.grad is not None}
        return total.item(), after, gradients


def config(
    cell: str, units: int, size: int, *, layers: int = 1, tied: bool = False, onehot: bool = False, relu: bool = False,
    penalty: float = 0.0, dropout: float = 0.0,
) -> ModelConfig:  # fmt: skip
    """A model's settings."""
    return ModelConfig(
        cell=cell, hidden_size=units, embedding_size=units if tied else size, layers=layers,
        tie_weights=tied and not onehot, input=Input.onehot if onehot else Input.embedding,
        nonlinearity=Nonlinearity.relu if relu else Nonlinearity.tanh, activation_penalty=penalty,
        slowness_penalty=penalty / 2, dropout_between=dropout, dropout_output=dropout, weight_drop=dropout,
        dropout_words=0.0 if onehot else dropout, dropout_input=None if onehot else dropout,
    )  # fmt: skip
