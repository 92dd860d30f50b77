"""Initial weights by name. Drawn on the CPU in the order of the parameters, so a seed means the same on any device.

Uniform ones have the same bits on every processor: torch's own `uniform_` rounds once where there is a fused
multiply-add and twice elsewhere. Orthogonal ones are LAPACK's, and do differ between processors in their last bits.
"""

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
            _uniform(weight, 1 / math.sqrt(inputs))
        else:
            bound = config.init_range if config.init is Init.uniform else TABLE_RANGE
            _uniform(weight, bound)


def initialise_output_bias(bias: Tensor, config: ModelConfig) -> None:
    """The output bias, (tokens,)."""
    with torch.no_grad():
        if config.init is Init.uniform:
            _uniform(bias, config.init_range)
        else:
            bias.zero_()


def _draw(parameter: Tensor, config: ModelConfig, *, recurrent: bool, units: int) -> None:
    with torch.no_grad():
        if config.init is Init.default:
            _uniform(parameter, 1 / math.sqrt(units))
        elif config.init is Init.uniform:
            _uniform(parameter, config.init_range)
        elif parameter.ndim < 2:
            parameter.zero_()
        elif config.init is Init.fan_in:
            bound = 1 / math.sqrt(parameter.shape[1])
            _uniform(parameter, bound)
        elif recurrent:
            for gate in torch.split(parameter, units):
                nn.init.orthogonal_(gate)
        else:
            _uniform(parameter, math.sqrt(3.0) * math.sqrt(2.0 / sum(parameter.shape)))


def _uniform(weight: Tensor, bound: float) -> None:
    """From -bound to bound, of 24 random bits each: the numbers that `uniform_` has where it rounds once."""
    low, high = torch.tensor([-bound, bound]).tolist()  # float32, as torch takes them
    bits = torch.empty(weight.shape, dtype=torch.int64).random_(0, 2**24)
    width = float(torch.tensor(high - low))
    weight.copy_((bits.double() * (2.0**-24 * width)).add_(low))
