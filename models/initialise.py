"""Initial weights by name. Drawn on the CPU in the order of the parameters, so a seed means the same on any device."""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn

from terry.models.cells import Lstm, OwnCell, RecurrentLayer
from terry.models.config import Init, ModelConfig

#: Range of embedding and output weights in `default`: that of PyTorch's word_language_model.
TABLE_RANGE = 0.1


def initialise_layer(layer: RecurrentLayer, config: ModelConfig) -> None:
    """A recurrent layer. A user's own cell keeps the weights that it made, unless a rule for all weights is asked."""
    if isinstance(layer, OwnCell) and config.init in (Init.default, Init.orthogonal):
        return
    for name, parameter in layer.named_parameters():
        _draw(parameter, config, recurrent="weight_hh" in name, units=layer.hidden_size)
    if isinstance(layer, Lstm) and config.forget_bias:
        with torch.no_grad():
            layer.bias_ih[layer.hidden_size : 2 * layer.hidden_size] += config.forget_bias


def initialise_table(weight: Tensor, config: ModelConfig, *, inputs: int) -> None:
    """The embedding or the output weights, (tokens, size); `inputs`: how many numbers go into one unit."""
    with torch.no_grad():
        if config.init is Init.fan_in:
            weight.uniform_(-1 / math.sqrt(inputs), 1 / math.sqrt(inputs))
        else:
            bound = config.init_range if config.init is Init.uniform else TABLE_RANGE
            weight.uniform_(-bound, bound)


def initialise_output_bias(bias: Tensor, config: ModelConfig) -> None:
    """The output bias, (tokens,)."""
    with torch.no_grad():
        if config.init is Init.uniform:
            bias.uniform_(-config.init_range, config.init_range)
        else:
            bias.zero_()


def _draw(parameter: Tensor, config: ModelConfig, *, recurrent: bool, units: int) -> None:
    with torch.no_grad():
        if config.init is Init.default:
            parameter.uniform_(-1 / math.sqrt(units), 1 / math.sqrt(units))
        elif config.init is Init.uniform:
            parameter.uniform_(-config.init_range, config.init_range)
        elif parameter.ndim < 2:
            parameter.zero_()
        elif config.init is Init.fan_in:
            bound = 1 / math.sqrt(parameter.shape[1])
            parameter.uniform_(-bound, bound)
        elif recurrent:
            for gate in torch.split(parameter, units):
                nn.init.orthogonal_(gate)
        else:
            nn.init.xavier_uniform_(parameter)
