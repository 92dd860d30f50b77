"""Nested states with tensors in them, for a checkpoint: the tensors by name, and a plain tree that says where they go.

`optimizer.state_dict()` has mappings with whole numbers for keys, lists of groups with tuples in them, and tensors
below; a generator's state has whole numbers of 128 bits. All of it comes back equal, or is refused by name at once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
import torch
from torch import Tensor

from terry.logs.records.values import Refused, pack, unpack

#: The key of state.json below which trees stand, where there are any.
TREES = "$trees"

#: Kinds of numbers that safetensors writes; those that this torch lacks are left out.
_NUMBERS: tuple[str, ...] = ("float64", "float32", "float16", "bfloat16", "float8_e4m3fn", "float8_e5m2", "complex64")
_NUMBERS += ("bool", "int64", "int32", "int16", "int8", "uint8", "uint16", "uint32", "uint64")
_STORED = frozenset(getattr(torch, name) for name in _NUMBERS if hasattr(torch, name))


class Packed(dict[str, Any]):
    """A state that is packed already: plain JSON, shared with nobody."""


def parts_of(
    model: Mapping[Any, Any], optimizer: Mapping[Any, Any], state: Mapping[Any, Any]
) -> tuple[dict[str, Tensor], dict[str, Tensor], Packed]:
    """Tensors of model.safetensors, tensors of optimizer.safetensors, and what state.json says. Raises Refused."""
    for name, value in (("model", model), ("optimizer", optimizer), ("state", state)):
        if not isinstance(value, Mapping):
            raise Refused(f"{name} must be a mapping, not {type(value).__name__}")
    weights, others = _Tensors(), _Tensors()
    trees = {"model": weights.tree(model, "model"), "optimizer": others.tree(optimizer, "optimizer")}
    plain = pack(state, "state", others.keep)
    simple = isinstance(plain, dict) and not any(key.startswith("$") for key in plain)
    if simple and not any(trees.values()) and not others.made:
        return weights.tensors, others.tensors, Packed(plain)
    return weights.tensors, others.tensors, Packed({TREES: {**trees, "state": plain}})


def restored(
    model: dict[str, Tensor], optimizer: dict[str, Tensor], state: dict[str, Any]
) -> tuple[dict[str, Any], dict[str, Any], dict[str, Any]]:
    """What `parts_of` was given. Raises KeyError, TypeError for what it did not write."""
    trees = state.get(TREES)
    if not isinstance(trees, dict):
        return model, optimizer, {key: unpack(value) for key, value in state.items()}
    of_model, of_others = _Giver(model), _Giver(optimizer)
    return (
        model if trees["model"] is None else unpack(trees["model"], of_model),
        optimizer if trees["optimizer"] is None else unpack(trees["optimizer"], of_others),
        unpack(trees["state"], of_others),
    )


class _Tensors:
    """Collects tensors under names that are used once."""

    def __init__(self) -> None:
        self.tensors: dict[str, Tensor] = {}
        self.made = False  #: some stand below names that were made up

    def tree(self, value: Mapping[Any, Any], name: str) -> Any:
        """None where the mapping is nothing but tensors by name: then the file of tensors is all of it."""
        own = {key: item for key, item in value.items() if isinstance(key, str) and _is_stored(item)}
        if len(own) == len(value):
            self.tensors.update(own)
            return None
        return pack(value, name, self.keep)

    def keep(self, value: Any, name: str) -> Any:
        """What stands in the tree for a tensor or an array."""
        if isinstance(value, np.ndarray):
            return {"$ndarray": self.keep(_of_array(value, name), name)}
        tensor = value.detach()
        if _is_stored(tensor):
            return {"$tensor": self._add(name, tensor)}
        if tensor.layout is torch.sparse_coo and not tensor.is_meta:
            parts = {"indices": self.keep(tensor._indices(), name), "values": self.keep(tensor._values(), name)}
            return {"$sparse": {**parts, "shape": list(tensor.shape), "coalesced": tensor.is_coalesced()}}
        if tensor.layout is torch.strided and tensor.dtype is torch.complex128 and not tensor.is_meta:
            return {"$complex": self.keep(torch.view_as_real(tensor.resolve_conj()), name)}
        raise Refused(f"{name} is a tensor that cannot be kept ({_kind(tensor)}); hand over a dense one")

    def _add(self, name: str, tensor: Tensor) -> str:
        free, number = name, 1
        while free in self.tensors:
            number += 1
            free = f"{name}#{number}"
        self.tensors[free] = tensor
        self.made = True
        return free


def _is_stored(value: Any) -> bool:
    return (
        isinstance(value, Tensor)
        and value.layout is torch.strided
        and value.dtype in _STORED
        and not (value.is_meta or value.is_nested or value.is_quantized)
    )


def _kind(tensor: Tensor) -> str:
    where = ", without content" if tensor.is_meta else ", nested" if tensor.is_nested else ""
    return f"{tensor.layout}, {tensor.dtype}{where}"


def _of_array(array: np.ndarray[Any, Any], name: str) -> Tensor:
    try:
        return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))
    except TypeError:
        raise Refused(f"{name} is an array of {array.dtype}, and arrays of numbers are kept") from None


class _Giver:
    """Puts tensors back where the tree names them."""

    def __init__(self, tensors: dict[str, Tensor]) -> None:
        self._tensors = tensors

    def __call__(self, tag: str, content: Any) -> Any:
        return _GIVEN[tag](self, content)

    def tensor(self, content: Any) -> Tensor:
        """The tensor of a name."""
        return self._tensors[content]

    def sparse(self, content: Any) -> Tensor:
        """A sparse tensor of its parts."""
        indices, values = unpack(content["indices"], self), unpack(content["values"], self)
        return torch.sparse_coo_tensor(
            indices, values, content["shape"], is_coalesced=content["coalesced"], check_invariants=False
        )


_GIVEN: dict[str, Callable[[_Giver, Any], Any]] = {
    "$tensor": _Giver.tensor,
    "$sparse": _Giver.sparse,
    "$complex": lambda giver, content: torch.view_as_complex(unpack(content, giver)),
    "$ndarray": lambda giver, content: unpack(content, giver).numpy(),
}
