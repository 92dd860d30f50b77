"""The recurrent part of RNN, GRU and LSTM over a whole sequence, with its gradient written by hand.

The products with the inputs are taken for all steps at once by the caller; only the product with the previous hidden
state is left inside the loop. In the backward pass everything that does not depend on the gradient itself is computed
for all steps at once beforehand, so that a step is two or three operations, and the gradient of the recurrent weights
is one product over all steps. On a CPU this beats torch.nn.RNN and GRU (benchmarks/RESULTS.md); cuDNN beats it on GPUs.

Gate order and formulas are those of torch.nn, so that weights are interchangeable. All sequences are (time, batch, …).
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable


class RnnSequence(torch.autograd.Function):
    """h_t = tanh or relu(x_t + W h_{t-1}). (x (T, B, H), h_0 (B, H), W (H, H), relu) -> outputs (T, B, H)."""

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, weight: Tensor, relu: bool) -> Tensor:  # noqa: FBT001
        outputs = torch.empty_like(x)
        transposed = weight.t()
        h = h0
        activate = torch.Tensor.relu_ if relu else torch.Tensor.tanh_
        for x_t, out in zip(x.unbind(0), outputs.unbind(0), strict=True):
            h = activate(torch.addmm(x_t, h, transposed, out=out))
        ctx.save_for_backward(outputs, h0, weight)
        ctx.relu = relu
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        outputs, h0, weight = ctx.saved_tensors
        slopes = (outputs > 0).to(outputs.dtype) if ctx.relu else 1 - outputs * outputs
        dx = _rnn_backward(slopes, grad, weight)
        dh0 = dx[0] @ weight
        return dx, dh0, _recurrent_grad(dx, outputs, h0), None


def _rnn_backward(slopes: Tensor, grad: Tensor, weight: Tensor) -> Tensor:
    """Gradients of x, in place of `slopes`."""
    steps = slopes.unbind(0)
    grads = grad.unbind(0)
    steps[-1].mul_(grads[-1])
    for t in range(len(steps) - 2, -1, -1):
        steps[t].mul_(torch.addmm(grads[t], steps[t + 1], weight))
    return slopes


def _recurrent_grad(dgates: Tensor, outputs: Tensor, h0: Tensor) -> Tensor:
    """Gradient of recurrent weights: sum over steps of dgates_t^T h_{t-1}."""
    first = dgates[0].t() @ h0
    if len(dgates) == 1:
        return first
    return torch.addmm(first, dgates[1:].flatten(0, 1).t(), outputs[:-1].flatten(0, 1))


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
        outputs = x.new_empty(time, batch, size)
        w_rz, w_n = weight[: 2 * size].t(), weight[2 * size :].t()
        steps = zip(
            x[..., : 2 * size].unbind(0), x[..., 2 * size :].unbind(0), gates.unbind(0), gates[..., :size].unbind(0),
            gates[..., size:].unbind(0), inner.unbind(0), new.unbind(0), outputs.unbind(0), strict=True,
        )  # fmt: skip
        h = h0
        for x_rz, x_n, rz, r, z, inside, n, out in steps:
            torch.addmm(x_rz, h, w_rz, out=rz).sigmoid_()
            torch.addmm(bias, h, w_n, out=inside)
            torch.addcmul(x_n, r, inside, out=n).tanh_()
            h = torch.lerp(n, h, z, out=out)
        ctx.save_for_backward(gates, inner, new, outputs, h0, weight)
        return outputs

    @staticmethod
    @once_differentiable
    def backward(ctx: Any, grad: Tensor) -> tuple[Tensor | None, ...]:
        gates, inner, new, outputs, h0, weight = ctx.saved_tensors
        size = h0.shape[1]
        r, z = gates[..., :size], gates[..., size:]
        through = (1 - z) * (1 - new * new)  # what of dh reaches the argument of tanh
        dgates = x_like = gates.new_empty(len(gates), h0.shape[0], 3, size)
        torch.mul(through, r, out=dgates[:, :, 2])
        torch.mul(dgates[:, :, 2], inner * (1 - r), out=dgates[:, :, 0])
        previous = torch.cat((h0.unsqueeze(0), outputs[:-1]))
        torch.mul((previous - new) * z, 1 - z, out=dgates[:, :, 1])
        dh, dh0 = _gru_backward(dgates, z, grad, weight)
        dx = x_like.flatten(2).clone()
        torch.mul(dh, through, out=dx[..., 2 * size :])
        flat = dgates.flatten(2).flatten(0, 1)
        dweight = flat.t() @ previous.flatten(0, 1)
        return dx, dh0, dweight, flat[:, 2 * size :].sum(0)


def _gru_backward(dgates: Tensor, z: Tensor, grad: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
    """Turn the factors in `dgates` (T, B, 3, H) into gradients in place; return dh of all steps and of h_0."""
    dh_all = torch.empty_like(grad)
    steps, flats, zs, grads, dhs = (
        dgates.unbind(0),
        dgates.flatten(2).unbind(0),
        z.unbind(0),
        grad.unbind(0),
        dh_all.unbind(0),
    )
    dhs[-1].copy_(grads[-1])
    for t in range(len(steps) - 1, -1, -1):
        dh = dhs[t]
        steps[t].mul_(dh.unsqueeze(1))
        carried = torch.addcmul(grads[t - 1], dh, zs[t]) if t else dh * zs[t]
        last = torch.addmm(carried, flats[t], weight, out=dhs[t - 1]) if t else carried.addmm_(flats[t], weight)
    return dh_all, last


class LstmSequence(torch.autograd.Function):
    """An LSTM, gates i, f, g, o: c' = f c + i g, h' = o tanh(c').

    (x (T, B, 4H) with the biases in it, h_0, c_0 (B, H), W (4H, H)) -> outputs (T, B, H), c_T (B, H).
    """

    @staticmethod
    def forward(ctx: Any, x: Tensor, h0: Tensor, c0: Tensor, weight: Tensor) -> tuple[Tensor, Tensor]:
        time, batch, size = len(x), h0.shape[0], h0.shape[1]
        gates = torch.empty_like(x)
        cells, squashed, outputs = (x.new_empty(time, batch, size) for _ in range(3))
        transposed = weight.t()
        parts = (gates[..., k * size : (k + 1) * size].unbind(0) for k in range(4))
        steps = zip(
            x.unbind(0), gates.unbind(0), gates[..., : 2 * size].unbind(0), *parts,
            cells.unbind(0), squashed.unbind(0), outputs.unbind(0), strict=True,
        )  # fmt: skip
        h, c = h0, c0
        for x_t, all_gates, i_f, i, f, g, o, cell, tanh_c, out in steps:
            torch.addmm(x_t, h, transposed, out=all_gates)
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
        torch.mul(g * i, 1 - i, out=dgates[:, :, 0])
        torch.mul(previous * f, 1 - f, out=dgates[:, :, 1])
        torch.mul(i, 1 - g * g, out=dgates[:, :, 2])
        torch.mul(squashed * o, 1 - o, out=dgates[:, :, 3])
        into_cell = o * (1 - squashed * squashed)
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
