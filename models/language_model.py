"""The recurrent language model: embedding or one-hot input, recurrent layers, softmax over the vocabulary."""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional

from terry.models.cells import RecurrentLayer, State, make_layer
from terry.models.config import Input, ModelConfig
from terry.models.cross_entropy import LogitsBuffer, language_model_loss
from terry.models.dropout import drop, drop_words
from terry.models.errors import ConfigError
from terry.models.initialise import initialise_layer, initialise_output_bias, initialise_table

#: Carried hidden state: a layer's state for each layer.
ModelState = tuple[State, ...]


class LanguageModel(nn.Module):
    """Predicts the next token from those before.

    embedding: pre-trained vectors (vocabulary_size, embedding_size), copied. Raises ConfigError where config and
    embedding contradict each other.
    """

    def __init__(self, config: ModelConfig, vocabulary_size: int, embedding: Tensor | None = None) -> None:
        super().__init__()
        if vocabulary_size < 2:
            raise ConfigError(f"a vocabulary has at least 2 tokens, not {vocabulary_size}")
        self.config = config
        self.vocabulary_size = vocabulary_size
        self.vocabulary_sha256 = ""  #: hash of the vocabulary, where whoever made the model knows it
        self.embedding = self._make_embedding(embedding)
        self.layers = nn.ModuleList(self._make_layers())
        size = config.output_size
        self.output_weight = None if config.tie_weights else nn.Parameter(torch.empty(vocabulary_size, size))
        self.output_bias = nn.Parameter(torch.empty(vocabulary_size))
        self._initialise(pretrained=embedding is not None)
        self._workspace = LogitsBuffer()

    def _make_embedding(self, given: Tensor | None) -> nn.Parameter | None:
        config = self.config
        if config.input is Input.onehot:
            if given is not None:
                raise ConfigError("model.input: onehot has no embedding to fill with pre-trained vectors")
            return None
        shape = (self.vocabulary_size, config.embedding_size)
        if given is None:
            return nn.Parameter(torch.empty(shape), requires_grad=not config.freeze_embedding)
        if tuple(given.shape) != shape:
            raise ConfigError(f"the pre-trained vectors have shape {tuple(given.shape)}; the model needs {shape}")
        return nn.Parameter(given.detach().clone().float(), requires_grad=not config.freeze_embedding)

    def _make_layers(self) -> list[RecurrentLayer]:
        config = self.config
        sizes = [config.hidden_size] * (config.layers - 1) + [config.output_size]
        first = config.embedding_size if config.input is Input.embedding else self.vocabulary_size
        return [
            make_layer(config.cell, below, size, nonlinearity=config.nonlinearity, weight_drop=config.weight_drop)
            for below, size in zip([first, *sizes], sizes, strict=False)
        ]

    def _initialise(self, *, pretrained: bool) -> None:
        if self.embedding is not None and not pretrained:
            initialise_table(self.embedding, self.config, inputs=self.vocabulary_size)
        for layer in self.recurrent_layers:
            initialise_layer(layer, self.config)
        if self.output_weight is not None:
            initialise_table(self.output_weight, self.config, inputs=self.config.output_size)
        initialise_output_bias(self.output_bias, self.config)

    @property
    def recurrent_layers(self) -> list[RecurrentLayer]:
        """The layers, lowest first."""
        return list(self.layers)  # type: ignore[arg-type]

    @property
    def decoder(self) -> Tensor:
        """Weights of the output layer, (vocabulary_size, output size)."""
        weight = self.embedding if self.output_weight is None else self.output_weight
        assert weight is not None
        return weight

    def initial_state(self, batch: int) -> ModelState:
        """Zeros for `batch` rows, where the parameters are."""
        zeros = self.output_bias.new_zeros
        return tuple(
            tuple(zeros(batch, layer.hidden_size) for _ in range(layer.states)) for layer in self.recurrent_layers
        )

    def forward(self, inputs: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """inputs (batch, time) int64 -> outputs of the last layer (batch, time, output size), state afterwards."""
        raw, state = self._run(inputs, state)
        return self._drop_output(raw).transpose(0, 1), state

    def logits(self, hidden: Tensor, *, out: Tensor | None = None) -> Tensor:
        """Scores of all tokens, (..., vocabulary_size), for outputs (..., output size).

        out: where they go, for outputs (rows, output size) and without gradients.
        """
        if out is not None:
            return torch.addmm(self.output_bias, hidden, self.decoder.t(), out=out)
        return functional.linear(hidden, self.decoder, self.output_bias)

    def loss(
        self, inputs: Tensor, targets: Tensor, mask: Tensor | None, state: ModelState
    ) -> tuple[Tensor, Tensor, ModelState]:
        """(sum of the targets' losses in nats, penalties of the activations, state afterwards).

        inputs, targets (batch, time) int64; mask (batch, time) bool, True where a target counts, None where all do.
        The penalty is a mean over outputs (AR and TAR, Merity et al. 2017, section 4.7); 0 where none is asked for.
        """
        raw, state = self._run(inputs, state)
        output = self._drop_output(raw)
        counts = None if mask is None else mask.t().reshape(-1)
        total = language_model_loss(
            output.flatten(0, 1), self.decoder, self.output_bias, targets.t().reshape(-1), counts, self._workspace
        )
        return total, self._penalty(raw, output), state

    def _run(self, inputs: Tensor, state: ModelState) -> tuple[Tensor, ModelState]:
        """Time comes first from here on, so that each step is one contiguous block."""
        config = self.config
        x, table = self._embed(inputs.t())
        between = config.dropout if config.dropout_between is None else config.dropout_between
        after = []
        for depth, (layer, start) in enumerate(zip(self.layers, state, strict=True)):
            if depth:
                x = drop(x, between, locked=config.variational, training=self.training)
            x, last = layer(x, start, None if depth else table)
            after.append(last)
        return x, tuple(after)

    def _embed(self, ids: Tensor) -> tuple[Tensor, Tensor | None]:
        """What the first layer gets: vectors, or ids (time, batch) and the table that they are looked up in."""
        if self.embedding is None:
            return ids, None
        config = self.config
        table = drop_words(self.embedding, config.dropout_words, training=self.training)
        share = config.dropout if config.dropout_input is None else config.dropout_input
        if self.training and not share and self.recurrent_layers[0].prefers_ids(len(table), *ids.shape):
            return ids, table
        return drop(functional.embedding(ids, table), share, locked=config.variational, training=self.training), None

    def _drop_output(self, raw: Tensor) -> Tensor:
        config = self.config
        share = config.dropout if config.dropout_output is None else config.dropout_output
        return drop(raw, share, locked=config.variational, training=self.training)

    def _penalty(self, raw: Tensor, output: Tensor) -> Tensor:
        config = self.config
        penalty = raw.new_zeros(())
        if config.activation_penalty:
            penalty = penalty + config.activation_penalty * output.pow(2).mean()
        if config.slowness_penalty and len(raw) > 1:
            penalty = penalty + config.slowness_penalty * (raw[1:] - raw[:-1]).pow(2).mean()
        return penalty


def detached(state: ModelState) -> ModelState:
    """The same state, cut off from the steps before it."""
    return tuple(tuple(part.detach() for part in layer) for layer in state)
