"""The list of operations for batches of one shape: forward through all layers, the loss, and backward again."""

from __future__ import annotations

import torch
from torch import Tensor

from terry.models.config import Input
from terry.models.kernels.memory import Layer, Memory
from terry.models.kernels.operations import Operations, padded
from terry.models.kernels.sequences import GATES, OutputLayer, Recurrence

#: So often must a row of the embedding be looked up on average to be projected once for all.
REPEATED = 4

# What a mask of dropout is for: part of the counter from which it is made.
_INPUT, _WORDS, _OUTPUT, _BETWEEN, _WEIGHT = 1, 2, 3, 16, 4096


class Pass:
    """Makes the list of operations for batches of one shape."""

    def __init__(self, memory: Memory, time: int, batch: int, *, backward: bool) -> None:
        self._net, self._time, self._batch, self._training = memory, time, batch, backward
        self._rows = time * batch
        self._config, self._model = memory.model.config, memory.model
        self._clock = memory.clock
        self._vocabulary = self._model.vocabulary_size
        self.operations = Operations(memory.library)
        self._recurrences: list[Recurrence] = []
        self._reads: dict[int, Tensor] = {}  # what each layer reads; of the first one perhaps the table of its rows
        self._natural = torch.arange(4)
        self._forward()
        if backward:
            self._backward()

    def _order(self, cell: str) -> Tensor:
        """Which gate each slope of an input's part is of."""
        return torch.tensor([2, 0, 1]) if cell == "gru" else self._natural[: GATES[cell]]

    @property
    def _table(self) -> bool:
        """Whether each token's row is projected once, and the rows are looked up by id."""
        if self._config.input is Input.onehot:
            return True
        return self._rows >= REPEATED * self._vocabulary and not self._share("input")

    def _share(self, where: str) -> float:
        config = self._config
        if not self._training:
            return 0.0
        share = getattr(config, f"dropout_{where}")
        return config.dropout if share is None else share

    def _drop(self, source: Tensor, to: Tensor, units: int, share: float, site: int) -> None:
        """Dropout of (time, batch, units) rows, as the model's settings say."""
        period = self._batch if self._config.variational else self._rows
        self.operations.dropout(
            source, to, self._clock, rows=self._rows, columns=padded(units), share=share, site=site, period=period
        )

    # forward

    def _forward(self) -> None:
        ops, net, rows = self.operations, self._net, self._rows
        ops.check_ids(net.ids("inputs", rows), rows, self._vocabulary)
        ops.check_ids(net.ids("targets", rows), rows, self._vocabulary)
        net.ids("kept", rows)
        for i, layer in enumerate(net.layers):
            self._layer_forward(i, layer)
        last = net.layers[-1]
        raw = self._states(len(net.layers) - 1)[self._batch * padded(last.units) :]
        share = self._share("output")
        self._output = net.floats("output", rows * padded(last.units)) if share else raw
        if share:
            self._drop(raw, self._output, last.units, share, _OUTPUT)
        self._output_layer(last)

    def _output_layer(self, last: Layer) -> None:
        net, rows = self._net, self._rows
        wide = rows * padded(last.units)
        gradients = None
        if self._training:
            decoder = "embedding" if self._config.tie_weights else "output_weight"
            gradients = (net.floats("up", wide), net.gradients.get(decoder), net.gradients["output_bias"])
            self.operations.zero(gradients[0], wide, rows=net.ids("count", 1), unless=rows)
        OutputLayer(
            hidden=self._output, rows=rows, weight=self._model.decoder.detach(),
            bias=self._model.output_bias.detach(), targets=net.ids("targets", rows), kept=net.ids("kept", rows),
            count=net.ids("count", 1), scale=net.numbers[1:2], loss=net.numbers[0:1], work=net.work,
            gradients=gradients,
        ).add(self.operations)  # fmt: skip

    def _states(self, number: int) -> Tensor:
        units = padded(self._net.layers[number].units)
        return self._net.floats(f"states.{number}", (self._time + 1) * self._batch * units)

    def _layer_forward(self, i: int, layer: Layer) -> None:
        ops, net, time, batch, rows = self.operations, self._net, self._time, self._batch, self._rows
        units, wide = padded(layer.units), layer.wide
        lstm, inside = layer.cell == "lstm", layer.cell != "rnn"
        made = Recurrence(
            cell=layer.cell, relu=layer.relu, time=time, batch=batch, units=layer.units, states=self._states(i),
            gates=net.floats(f"gates.{i}", rows * wide),
            cells=net.floats(f"cells.{i}", (time + 1) * batch * units) if lstm else None,
            inner=net.floats(f"inner.{i}", rows * units) if inside else None,
        )  # fmt: skip
        self._recurrences.append(made)
        bias, rest = net.floats(f"bias.{i}", wide), net.floats(f"rest.{i}", units)
        both = 2 if layer.cell == "gru" else layer.gates
        ops.lay_out_bias(layer.bias_ih, layer.bias_hh, bias, rest, gates=layer.gates, units=layer.units, both=both)
        weight = self._recurrent(i, layer)
        laid = net.floats(f"laid.{i}", wide * layer.units)
        ops.lay_out_forward(weight, laid, gates=layer.gates, units=layer.units, inputs=layer.units)
        for part, whole in enumerate((made.states, made.cells)):
            if whole is not None:
                self._copy(net.carried(i, part, batch, training=self._training), whole, batch, units)
        if i == 0 and self._table:
            table = self._projected_table(layer, bias)
            made.forward(ops, table, laid, rest, ids=net.ids("inputs", rows), x_rows=self._vocabulary)
        else:
            x, row = self._read(i, layer)
            self._projection(layer, x, row, rows, bias, made.gates)
            made.forward(ops, made.gates, laid, rest)
        for part, whole in enumerate((made.states, made.cells)):
            if whole is not None:
                self._copy(
                    whole[time * batch * units :], net.carried(i, part, batch, training=self._training), batch, units
                )

    def _copy(self, source: Tensor, to: Tensor, rows: int, row: int) -> None:
        self.operations.copy_rows(source, to, rows=rows, source_row=row, columns=row, to_row=row)

    def _recurrent(self, i: int, layer: Layer) -> Tensor:
        """Recurrent weights, some of them dropped while training."""
        if not (layer.weight_drop and self._training):
            return layer.weight_hh
        dropped = self._net.floats(f"dropped.{i}", layer.weight_hh.numel())
        rows = layer.gates * layer.units
        self.operations.dropout(
            layer.weight_hh, dropped, self._clock, rows=rows, columns=layer.units, share=layer.weight_drop,
            site=_WEIGHT + i,
        )  # fmt: skip
        return dropped

    def _projection(self, layer: Layer, x: Tensor, row: int, rows: int, bias: Tensor, out: Tensor) -> None:
        laid = self._net.floats(f"laid.inputs.{layer.name}", layer.wide * layer.inputs)
        self.operations.lay_out_forward(
            layer.weight_ih, laid, gates=layer.gates, units=layer.units, inputs=layer.inputs
        )
        self.operations.project(
            x, laid, bias, out, rows=rows, inputs=layer.inputs, row=row, gates=layer.gates, units=layer.units
        )

    def _words(self) -> Tensor:
        """The embedding, some of its rows dropped while training."""
        assert self._model.embedding is not None
        table = self._model.embedding.detach()
        share = self._config.dropout_words if self._training else 0.0
        if not share:
            return table
        dropped = self._net.floats("words", table.numel())
        self.operations.dropout(
            table, dropped, self._clock, rows=len(table), columns=table.shape[1], share=share, site=_WORDS, whole=True
        )
        return dropped

    def _projected_table(self, layer: Layer, bias: Tensor) -> Tensor:
        """(tokens, gates x units): the inputs' part of each token."""
        out = self._net.floats("table", self._vocabulary * layer.wide)
        if self._config.input is Input.onehot:
            self.operations.turn_forward(
                layer.weight_ih, bias, out, tokens=self._vocabulary, gates=layer.gates, units=layer.units
            )
            return out
        words = self._words()
        self._reads[0] = words
        self._projection(layer, words, layer.inputs, self._vocabulary, bias, out)
        return out

    def _read(self, i: int, layer: Layer) -> tuple[Tensor, int]:
        """What a layer reads, and the distance of its rows."""
        net, rows, row = self._net, self._rows, padded(layer.inputs)
        if i:
            x = self._states(i - 1)[self._batch * row :]
            if share := self._share("between"):
                dropped = net.floats(f"read.{i}", rows * row)
                self._drop(x, dropped, layer.inputs, share, _BETWEEN + i)
                x = dropped
        else:
            x = net.floats("read.0", rows * row)
            self.operations.copy_rows(
                self._words(), x, rows=rows, source_row=layer.inputs, columns=layer.inputs, to_row=row,
                ids=net.ids("inputs", rows), source_rows=self._vocabulary,
            )  # fmt: skip
            if share := self._share("input"):
                self._drop(x, x, layer.inputs, share, _INPUT)
        self._reads[i] = x
        return x, row

    # backward

    def _backward(self) -> None:
        net, rows = self._net, self._rows
        last = net.layers[-1]
        units = padded(last.units)
        up = net.floats("up", rows * units)
        if self._config.activation_penalty:
            factor = 2 * self._config.activation_penalty / (rows * last.units)
            self.operations.add_scaled(self._output, up, rows * units, factor)
        if share := self._share("output"):
            self._drop(up, up, last.units, share, _OUTPUT)
        if self._config.slowness_penalty and self._time > 1:
            factor = 2 * self._config.slowness_penalty / ((rows - self._batch) * last.units)
            raw = self._states(len(net.layers) - 1)[self._batch * units :]
            self.operations.add_changes(raw, up, time=self._time, row=self._batch * units, factor=factor)
        for i in range(len(net.layers) - 1, -1, -1):
            self._layer_backward(i, net.layers[i])

    def _layer_backward(self, i: int, layer: Layer) -> None:
        ops, net, rows = self.operations, self._net, self._rows
        units, inner = padded(layer.units), layer.gates * padded(layer.units)
        grads = {what: net.gradients[f"{layer.name}.{what}"] for what in ("weight_hh", "bias_ih", "bias_hh")}
        laid = net.floats(f"laid.{i}", inner * units)
        natural, order = self._natural[: layer.gates], self._order(layer.cell)
        dropped = bool(layer.weight_drop)
        weight = net.floats(f"dropped.{i}", layer.weight_hh.numel()) if dropped else layer.weight_hh
        ops.lay_out_backward(weight, laid, natural, gates=layer.gates, units=layer.units, inputs=layer.units)
        slopes = net.floats("slopes", rows * layer.slopes)
        carries = (net.floats("carry", self._batch * units), net.floats("carry.cell", self._batch * units))
        made = self._recurrences[i]
        made.backward(ops, net.floats("up", rows * units), laid, slopes, *carries)
        recurrent = slopes[layer.slopes - inner :]
        ops.weight_slopes(
            recurrent, made.states, grads["weight_hh"], natural, rows=rows, gates=layer.gates, units=layer.units,
            row=layer.slopes, columns=layer.units, x_row=units,
        )  # fmt: skip
        if dropped:
            ops.dropout(
                grads["weight_hh"], grads["weight_hh"], self._clock, rows=layer.gates * layer.units,
                columns=layer.units, share=layer.weight_drop, site=_WEIGHT + i,
            )  # fmt: skip
        one, other = (grads["bias_ih"], None) if layer.cell == "gru" else (grads["bias_ih"], grads["bias_hh"])
        sizes = {"rows": rows, "gates": layer.gates, "units": layer.units, "row": layer.slopes}
        ops.bias_slopes(slopes, (one, other), order, **sizes)
        if other is None:
            ops.bias_slopes(recurrent, (None, grads["bias_hh"]), natural, **sizes)
        if i == 0 and self._table:
            self._table_backward(layer, slopes, order)
        else:
            self._read_backward(i, layer, slopes, order)

    def _weight_gradient(self, layer: Layer, slopes: Tensor, x: Tensor, order: Tensor, rows: int, row: int) -> None:
        self.operations.weight_slopes(
            slopes, x, self._net.gradients[f"{layer.name}.weight_ih"], order, rows=rows, gates=layer.gates,
            units=layer.units, row=row, columns=layer.inputs, x_row=padded(layer.inputs),
        )  # fmt: skip

    def _read_backward(self, i: int, layer: Layer, slopes: Tensor, order: Tensor) -> None:
        ops, net, rows, row = self.operations, self._net, self._rows, padded(layer.inputs)
        self._weight_gradient(layer, slopes, self._reads[i], order, rows, layer.slopes)
        if i == 0 and "embedding" not in net.gradients:
            return
        down = net.floats("up", rows * row) if i else net.floats("down", rows * row)
        self._back_to_inputs(layer, slopes, order, down, rows, layer.slopes, columns=row, more=False)
        if i:
            if share := self._share("between"):
                self._drop(down, down, layer.inputs, share, _BETWEEN + i)
            return
        if share := self._share("input"):
            self._drop(down, down, layer.inputs, share, _INPUT)
        to, own = self._embedding_gradient()
        ops.scatter(
            down, to, net.ids("inputs", rows), rows=rows, row=row, columns=layer.inputs, to_row=layer.inputs,
            limit=self._vocabulary,
        )  # fmt: skip
        self._finish_embedding(to, own=own)

    def _back_to_inputs(
        self, layer: Layer, slopes: Tensor, order: Tensor, out: Tensor, rows: int, row: int, *, columns: int, more: bool
    ) -> None:
        inner = layer.wide
        laid = self._net.floats(f"laid.inputs.{layer.name}", inner * padded(layer.inputs))
        self.operations.lay_out_backward(
            layer.weight_ih, laid, order, gates=layer.gates, units=layer.units, inputs=layer.inputs
        )
        self.operations.project_back(
            slopes, laid, out, rows=rows, inner=inner, row=row, columns=columns, out_row=columns, more=more
        )

    def _embedding_gradient(self) -> tuple[Tensor, bool]:
        """Where the embedding's gradient is added up, and whether that is memory of its own. Zeros, or the output's."""
        grad = self._net.gradients["embedding"]
        if self._config.dropout_words:
            grad = self._net.floats("words.gradient", grad.numel())
        elif self._config.tie_weights:
            return grad, False
        self.operations.zero(grad, grad.numel())
        return grad, bool(self._config.dropout_words)

    def _finish_embedding(self, found: Tensor, *, own: bool) -> None:
        """Words' dropout, and the output layer's share where they are tied."""
        if not own:
            return
        grad = self._net.gradients["embedding"]
        tied = self._config.tie_weights
        self.operations.dropout(
            found, found if tied else grad, self._clock, rows=len(grad), columns=grad.shape[1],
            share=self._config.dropout_words, site=_WORDS, whole=True,
        )  # fmt: skip
        if tied:
            self.operations.add_scaled(found, grad, grad.numel(), 1.0)

    def _table_backward(self, layer: Layer, slopes: Tensor, order: Tensor) -> None:
        ops, net, rows, tokens = self.operations, self._net, self._rows, self._vocabulary
        table = net.floats("table", tokens * layer.wide)
        ops.zero(table, tokens * layer.wide)
        ops.scatter(
            slopes, table, net.ids("inputs", rows), rows=rows, row=layer.slopes, columns=layer.wide,
            to_row=layer.wide, limit=tokens,
        )  # fmt: skip
        if self._config.input is Input.onehot:
            grad = net.gradients[f"{layer.name}.weight_ih"]
            ops.turn_backward(table, grad, order, tokens=tokens, gates=layer.gates, units=layer.units)
            return
        words, row = self._reads[0], padded(layer.inputs)
        if row != layer.inputs:
            wide = net.floats("words.padded", tokens * row)
            ops.copy_rows(words, wide, rows=tokens, source_row=layer.inputs, columns=layer.inputs, to_row=row)
            words = wide
        self._weight_gradient(layer, table, words, order, tokens, layer.wide)
        if "embedding" not in net.gradients:
            return
        to, own = self._embedding_gradient()
        tied = to is net.gradients["embedding"] and self._config.tie_weights
        self._back_to_inputs(layer, table, order, to, tokens, layer.wide, columns=layer.inputs, more=tied)
        self._finish_embedding(to, own=own)
