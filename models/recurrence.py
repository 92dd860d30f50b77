"""The recurrent part of RNN, GRU and LSTM over a whole sequence, with its gradient written by hand.

The products with the inputs are taken for all steps at once by the caller; only the product with the previous hidden
state is left inside the loop, with weights laid out so that the product need not turn them at each step. In the
backward pass what does not depend on the gradient itself is computed beforehand, for as many steps at once as stay in
the cache, and the gradient of the recurrent weights is one product over all steps. On a CPU this beats torch.nn.RNN and
GRU (benchmarks/RESULTS.md); cuDNN beats it on GPUs.

Gate order and formulas are those of torch.nn, so that weights are interchangeable. All sequences are (time, batch, …).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

#: Numbers of one array that are worked on at once: 128 KiB of float32, so that several arrays stay in a core's cache.
BLOCK = 1 << 15

#: grad x (1 - out^2), grad x out x (1 - out), and grad where out > 0: one pass each, into `grad_input`.
_tanh_slope = torch.ops.aten.tanh_backward.grad_input
_sigmoid_slope = torch.ops.aten.sigmoid_backward.grad_input
_relu_slope = torch.ops.aten.threshold_backward.grad_input


class RnnSequence(torch.autograd.Function):
    """h_t = tanh or relu(x_t + W h_{t-1}). (x (T, B, H), h_0 (B, H), W (H, H), relu) -> outputs (T, B, H)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, weight: Tensor, relu: bool) -> Tensor:  # noqa: FBT001
        outputs = torch.empty_like(x)
        turned = weight.t().contiguous()
        h = h0
        activate = torch.Tensor.relu_ if relu else torch.Tensor.tanh_
        for x_t, out in zip(x.unbind(0), outputs.unbind(0), strict=True):
            h = activate(torch.addmm(x_t, h, turned, out=out))
        ctx.save_for_backward(outputs, h0, weight)
        ctx.relu = relu
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        outputs, h0, weight = ctx.saved_tensors
        dx, dh0 = _rnn_backward(outputs, grad, weight, relu=ctx.relu)
        return dx, dh0, _recurrent_grad(dx, outputs, h0), None


def _rnn_backward(outputs: Tensor, grad: Tensor, weight: Tensor, *, relu: bool) -> tuple[Tensor, Tensor]:
    """Gradients of x and of h_0."""
    dx = torch.empty_like(outputs)
    steps, grads, outs = dx.unbind(0), grad.unbind(0), outputs.unbind(0)
    dh = grads[-1]
    for t in range(len(steps) - 1, -1, -1):
        if relu:
            _relu_slope(dh, outs[t], 0, grad_input=steps[t])
        else:
            _tanh_slope(dh, outs[t], grad_input=steps[t])
        dh = torch.addmm(grads[t - 1], steps[t], weight) if t else steps[t] @ weight
    return dx, dh


def _recurrent_grad(dgates: Tensor, outputs: Tensor, h0: Tensor) -> Tensor:
    """Gradient of recurrent weights: sum over steps of dgates_t^T h_{t-1}."""
    first = dgates[0].t() @ h0
    if len(dgates) == 1:
        return first
    return torch.addmm(first, dgates[1:].flatten(0, 1).t(), outputs[:-1].flatten(0, 1))


def _blocks(time: int, numbers: int) -> Iterator[slice]:
    """Steps that are worked on at once, the last ones first. numbers: of one array in a step."""
    length = max(1, BLOCK // numbers)
    for end in range(time, 0, -length):
        yield slice(max(0, end - length), end)


class GruSequence(torch.autograd.Function):
    """A GRU in cuDNN's form (the reset gate acts on the product): gates r, z, n.

    r = sigmoid(x_r + W_r h), z = sigmoid(x_z + W_z h), n = tanh(x_n + r (W_n h + b_n)), h' = n + z (h - n).
    (x (T, B, 3H) with all other biases in it, h_0 (B, H), W (3H, H), b_n (H,)) -> outputs (T, B, H).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, weight: Tensor, bias: Tensor) -> Tensor:
        time, batch, size = len(x), h0.shape[0], h0.shape[1]
        gates = x.new_empty(time, batch, 2 * size)
        inner = x.new_empty(time, batch, size)
        new = x.new_empty(time, batch, size)
        states = x.new_empty(time + 1, batch, size)  # h_0 to h_T
        states[0].copy_(h0)
        w_rz, w_n = weight[: 2 * size].t().contiguous(), weight[2 * size :].t().contiguous()
        steps = zip(
            x[..., : 2 * size].unbind(0), x[..., 2 * size :].unbind(0), gates.unbind(0), gates[..., :size].unbind(0),
            gates[..., size:].unbind(0), inner.unbind(0), new.unbind(0), states[1:].unbind(0), strict=True,
        )  # fmt: skip
        h = states[0]
        for x_rz, x_n, rz, r, z, inside, n, out in steps:
            torch.addmm(x_rz, h, w_rz, out=rz).sigmoid_()
            torch.addmm(bias, h, w_n, out=inside)
            torch.addcmul(x_n, r, inside, out=n).tanh_()
            h = torch.lerp(n, h, z, out=out)
        ctx.save_for_backward(gates, inner, new, states, weight)
        return states[1:]

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, inner, new, states, weight = ctx.saved_tensors
        size = new.shape[-1]
        # Gradients of the gates' arguments, n twice: of W_n h + b_n, r, z, of x_n. Recurrent weights need the first
        # three, the inputs the last three, which are in the order of torch.nn; neither has to be copied out.
        dgates = gates.new_empty(*new.shape[:2], 4, size)
        turned = weight.view(3, size, size).roll(1, 0).flatten(0, 1)
        dh = grad[-1]
        for part in _blocks(len(new), new[0].numel()):
            r, z = gates[part, :, :size], gates[part, :, size:]
            _gru_factors(dgates[part], r, z, inner[part], new[part], states[part])
            before = grad[part.start - 1] if part.start else None
            dh = _gru_backward(dgates[part], z, (before, grad[part], dh), turned)
        flat = dgates.flatten(0, 1)
        dweight = flat[:, :3].flatten(1).t() @ states[:-1].flatten(0, 1)
        dweight = dweight.view(3, size, size).roll(-1, 0).flatten(0, 1)
        return dgates[:, :, 1:].flatten(2), dh, dweight, flat[:, 0].sum(0)


def _gru_factors(dgates: Tensor, r: Tensor, z: Tensor, inner: Tensor, new: Tensor, previous: Tensor) -> None:
    """Write what the gradient of h' is multiplied by into `dgates` (T, B, 4, H)."""
    within, reset, update, of_x = dgates.unbind(2)
    spare = torch.rsub(z, 1)
    _tanh_slope(spare, new, grad_input=of_x)
    torch.mul(of_x, r, out=within)
    _sigmoid_slope(torch.mul(of_x, inner, out=spare), r, grad_input=reset)
    _sigmoid_slope(torch.sub(previous, new, out=spare), z, grad_input=update)


def _gru_backward(dgates: Tensor, z: Tensor, grads: tuple[Tensor | None, Tensor, Tensor], weight: Tensor) -> Tensor:
    """Turn the factors in `dgates` into gradients in place; return the gradient of the state before these steps.

    grads: of the output before these steps (None at the beginning), of these outputs, and all of the last one.
    """
    before, given, dh = grads
    incoming = (before, *given[:-1].unbind(0))
    recurrent, zs, steps = dgates[:, :, :3].flatten(2).unbind(0), z.unbind(0), dgates.unbind(0)
    for t in range(len(steps) - 1, -1, -1):
        steps[t].mul_(dh.unsqueeze(1))
        kept = incoming[t]
        carried = dh * zs[t] if kept is None else torch.addcmul(kept, dh, zs[t])
        dh = carried.addmm_(recurrent[t], weight)
    return dh


class LstmSequence(torch.autograd.Function):
    """An LSTM, gates i, f, g, o: c' = f c + i g, h' = o tanh(c').

    (x (T, B, 4H) with the biases in it, h_0, c_0 (B, H), W (4H, H)) -> outputs (T, B, H), c_T (B, H).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        time, batch, size = len(x), h0.shape[0], h0.shape[1]
        gates = torch.empty_like(x)
        cells, squashed, outputs = (x.new_empty(time, batch, size) for _ in range(3))
        turned = weight.t().contiguous()
        parts = (gates[..., k * size : (k + 1) * size].unbind(0) for k in range(4))
        steps = zip(
            x.unbind(0), gates.unbind(0), gates[..., : 2 * size].unbind(0), *parts,
            cells.unbind(0), squashed.unbind(0), outputs.unbind(0), strict=True,
        )  # fmt: skip
        h, c = h0, c0
        for x_t, all_gates, i_f, i, f, g, o, cell, tanh_c, out in steps:
            torch.addmm(x_t, h, turned, out=all_gates)
            i_f.sigmoid_()
            g.tanh_()
            o.sigmoid_()
            c = torch.mul(f, c, out=cell).addcmul_(i, g)
            h = torch.mul(o, torch.tanh(c, out=tanh_c), out=out)
        ctx.save_for_backward(gates, cells, squashed, outputs, h0, c0, weight)
        return outputs, c.clone()

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor, grad_c: Tensor) -> tuple[Tensor | None, ...]:
        gates, cells, squashed, outputs, h0, c0, weight = ctx.saved_tensors
        time, batch, size = outputs.shape
        i, f, g, o = gates.view(time, batch, 4, size).unbind(2)
        previous = torch.cat((c0.unsqueeze(0), cells[:-1]))
        dgates = gates.new_empty(time, batch, 4, size)
        _sigmoid_slope(g, i, grad_input=dgates[:, :, 0])
        _sigmoid_slope(previous, f, grad_input=dgates[:, :, 1])
        _tanh_slope(i, g, grad_input=dgates[:, :, 2])
        _sigmoid_slope(squashed, o, grad_input=dgates[:, :, 3])
        into_cell = torch.ops.aten.tanh_backward.default(o, squashed)
        dh0, dc0 = _lstm_backward(dgates, into_cell, f, (grad, grad_c), weight)
        dx = dgates.flatten(2)
        return dx, dh0, dc0, _recurrent_grad(dx, outputs, h0)


def _lstm_backward(
    dgates: Tensor, into_cell: Tensor, f: Tensor, grads: tuple[Tensor, Tensor], weight: Tensor
) -> tuple[Tensor, Tensor]:
    """Turn the factors in `dgates` (T, B, 4, H) into gradients in place; return the gradients of h_0 and c_0."""
    flats, memory, out = dgates.flatten(2).unbind(0), dgates[:, :, :3].unbind(0), dgates[:, :, 3].unbind(0)
    slopes, forget, incoming = into_cell.unbind(0), f.unbind(0), grads[0].unbind(0)
    dh, dc = incoming[-1], grads[1]
    for t in range(len(flats) - 1, -1, -1):
        dc = torch.addcmul(dc, dh, slopes[t])
        memory[t].mul_(dc.unsqueeze(1))
        out[t].mul_(dh)
        dc = dc.mul_(forget[t])
        dh = torch.addmm(incoming[t - 1], flats[t], weight) if t else flats[t] @ weight
    return dh, dc
