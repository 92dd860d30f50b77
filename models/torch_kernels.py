"""torch's own kernels of RNN, GRU and LSTM: which of them the device takes in the precision that is asked for."""

from __future__ import annotations

import torch

#: Asked once a process: kernel, device and precision -> whether it works.
_tried: dict[tuple[str, torch.device, torch.dtype], bool] = {}

_GATES = {"lstm": 4, "gru": 3, "rnn_tanh": 1, "rnn_relu": 1}


def runs(kernel: str, device: torch.device) -> bool:
    """Whether torch's own `kernel` ("lstm", "gru", "rnn_tanh", "rnn_relu") trains on the device under this autocast.

    The device itself is asked, once: under autocast torch (2.13) hands bfloat16 to oneDNN's LSTM on every CPU, and
    oneDNN has it from AVX-512 on. Elsewhere the call ends in "could not create a primitive descriptor".
    """
    if not torch.is_autocast_enabled(device.type):
        return True
    return bool(_ask(kernel, device, torch.get_autocast_dtype(device.type)))


@torch.compiler.assume_constant_result  # type: ignore[untyped-decorator]
def _ask(kernel: str, device: torch.device, dtype: torch.dtype) -> bool:
    key = kernel, device, dtype
    if key not in _tried:
        _tried[key] = _works(kernel, device, dtype)
    return _tried[key]


def _works(kernel: str, device: torch.device, dtype: torch.dtype) -> bool:
    """Try it forward and backward on one number. No random number is drawn."""
    rows = _GATES[kernel]
    with torch.inference_mode(mode=False), torch.enable_grad(), torch.autocast(device.type, dtype=dtype):
        shapes = (rows, 1), (rows, 1), (rows,), (rows,)
        weights = [torch.zeros(shape, device=device, requires_grad=True) for shape in shapes]
        x = torch.zeros(1, 1, 1, device=device)
        state = (x, x) if kernel == "lstm" else x
        try:
            outputs = getattr(torch, kernel)(x, state, weights, True, 1, 0.0, True, False, False)[0]
            torch.autograd.grad(outputs.sum(), weights)
        except torch.OutOfMemoryError:
            raise
        except RuntimeError:
            return False
    return True
