"""What people's code hands over, as JSON that gives back the same value: or refused at once, with its name.

JSON has no NaN, no infinity, no tuple, no bytes, no array, no text with half a surrogate pair, and only text for keys.
Such a value is written as a mapping of one key that begins with `$`, and read back as what it was:

    {"$float": "NaN"}  {"$int": "0x1f..."}  {"$tuple": [...]}  {"$map": [[key, value], ...]}  {"$text": hex of UTF-8}
    {"$bytes": hex}    {"$array": {"dtype": "float32", "shape": [2, 3], "data": [...]}}

All other values are the JSON that everybody reads. Numbers of NumPy and torch become Python's of equal value; what has
no equal (a complex number, a set, an object) is refused: a value that came back as another one is found too late.
"""

from __future__ import annotations

import math
import sys
from collections.abc import Callable, Mapping
from numbers import Integral, Real
from typing import Any

import msgspec

#: Arrays of more numbers than this belong into a file or a checkpoint, not into JSON.
ARRAY_LIMIT = 100_000

#: Deeper than this nothing is meant to be; most likely it contains itself.
DEPTH_LIMIT = 100

_decoder = msgspec.json.Decoder(dict[str, Any])
_WORDS = {"NaN": math.nan, "Infinity": math.inf, "-Infinity": -math.inf}
_LEAST, _MOST = -(1 << 63), (1 << 64) - 1  # the whole numbers that readers of JSON agree on


class Refused(TypeError):
    """A value that cannot be kept exactly: says which, and what would do."""


#: What becomes of a tensor or an array: called with it and its name. Raises Refused.
Keep = Callable[[Any, str], Any]


def number(value: object, name: str) -> int | float:
    """A measurement: Python's number of equal value (NaN and infinities too). Raises Refused with its name."""
    found = _single(value)
    if found is None:
        raise Refused(f"{name} must be a number, not {_shown(value)}")
    return _exact_float(found, name) if isinstance(found, int) and not _LEAST <= found < -_LEAST else found


def whole(value: object, name: str) -> int:
    """A step or a count: 0 to 2^63 - 1. Raises Refused with its name."""
    found = _single(value)
    if isinstance(value, bool) or not isinstance(found, int) or not 0 <= found < 1 << 63:
        raise Refused(f"{name} must be a whole number of 0 or more, not {_shown(value)}")
    return found


def _exact_float(value: int, name: str) -> float:
    try:
        found = float(value)
    except OverflowError:
        found = math.inf
    if found != value:
        raise Refused(f"{name} is a whole number of {value.bit_length()} bits: more than 64 have no place in a curve")
    return found


def pack(value: Any, name: str, keep: Keep | None = None) -> Any:
    """The value as plain JSON that `unpack` makes the same value of. Raises Refused with the name of what cannot be.

    keep: what is done with arrays and tensors; left out, they are written as numbers, and a 0-d tensor is one.
    """
    return _pack(value, (None, name), keep or _array, 0)


#: Where a value stands, from the inside: made into text only where somebody is to read it.
_Where = tuple[Any, Any]


def _name(where: _Where) -> str:
    around, key = where
    if around is None:
        return str(key)
    return f"{_name(around)}[{_key_text(key)}]"


def _pack(value: Any, where: _Where, keep: Keep, depth: int) -> Any:
    if depth > DEPTH_LIMIT:
        raise Refused(f"{_name(where)[:200]} is more than {DEPTH_LIMIT} levels deep, or contains itself")
    kind = type(value)
    if value is None or kind is bool:
        return value
    if kind is str or isinstance(value, str):
        return value if kind is str and value.isascii() else _text(str.__str__(value))
    if (found := _plain_number(value)) is not None:
        return _number(found)
    if kind is dict or isinstance(value, Mapping):
        return _mapping(value, where, keep, depth)
    if isinstance(value, (list, tuple)):
        items = [_pack(item, (where, i), keep, depth + 1) for i, item in enumerate(value)]
        return items if isinstance(value, list) else {"$tuple": items}
    if isinstance(value, (bytes, bytearray)):
        return {"$bytes": bytes(value).hex()}
    if _is_tensor(value) or _is_array(value):
        return keep(value, _name(where))
    raise Refused(
        f"{_name(where)} must be numbers, text, lists, mappings or arrays, not {_shown(value)}{_advice(value)}"
    )


def _mapping(value: Mapping[Any, Any], where: _Where, keep: Keep, depth: int) -> Any:
    packed = [(key, _pack(item, (where, key), keep, depth + 1)) for key, item in value.items()]
    plain = all(type(key) is str and (key.isascii() or _text(key) == key) for key, _ in packed)
    if plain and not (len(packed) == 1 and packed[0][0].startswith("$")):
        return dict(packed)
    pairs = []
    for key, item in packed:
        if _is_tensor(key) or _is_array(key):
            raise Refused(f"{_name(where)}: a key must be text or a number, not {_shown(key)}")
        pairs.append([_pack(key, (None, f"{_name(where)}: the key {_key_text(key)}"), keep, depth + 1), item])
    return {"$map": pairs}


def _text(text: str) -> Any:
    try:
        text.encode()
    except UnicodeEncodeError:  # half a surrogate pair, as in names of files that are not UTF-8
        return {"$text": text.encode("utf-8", "surrogatepass").hex()}
    return text


def _number(value: float) -> Any:
    if isinstance(value, int):
        return value if _LEAST <= value <= _MOST else {"$int": hex(value)}
    return value if math.isfinite(value) else {"$float": _word(value)}


def _word(value: float) -> str:
    return "NaN" if math.isnan(value) else "Infinity" if value > 0 else "-Infinity"


def _plain_number(value: object) -> int | float | None:
    """Python's number of equal value; None where there is none, or it is no single number."""
    if type(value) is float or type(value) is int:
        return value
    if type(value) is dict or type(value) is list:
        return None
    if _is_a(value, "numpy", "bool_"):
        return bool(value)
    if isinstance(value, Integral):
        return int(value)
    if isinstance(value, Real):
        try:
            found = float(value)
        except OverflowError:
            return None
        return found if math.isnan(found) or found == value else None
    return None


def _single(value: Any) -> int | float | None:
    """Of a number, or of a tensor or array that holds just one."""
    return _only_number(value) if _is_tensor(value) or _is_array(value) else _plain_number(value)


def _only_number(value: Any) -> int | float | None:
    """Of a tensor or array that holds just one number."""
    try:
        size = value.numel() if _is_tensor(value) else value.size
        return _plain_number(value.item()) if size == 1 else None
    except (RuntimeError, TypeError, ValueError, NotImplementedError):  # a meta tensor, text
        return None


def _array(value: Any, name: str) -> Any:
    """An array or a tensor as numbers."""
    if _is_tensor(value):
        if value.ndim == 0 and (single := _only_number(value)) is not None:
            return _number(single)
        value = _tensor_as_array(value, name)
    if value.dtype.kind not in "biuf" or value.dtype.itemsize > 8:
        raise Refused(f"{name} is an array of {value.dtype}, and arrays of numbers are kept")
    if value.size > ARRAY_LIMIT:
        raise Refused(f"{name} has {value.size:,} numbers, and at most {ARRAY_LIMIT:,} are kept here: write a file")
    data = [_number(item) if isinstance(item, float) else item for item in value.ravel().tolist()]
    return {"$array": {"dtype": value.dtype.name, "shape": list(value.shape), "data": data}}


def _tensor_as_array(tensor: Any, name: str) -> Any:
    import torch

    if tensor.layout is not torch.strided or tensor.is_quantized or tensor.device.type == "meta":
        raise Refused(f"{name} is a tensor that is not dense; hand over its `.to_dense()`")
    tensor = tensor.detach().cpu()
    try:
        return tensor.numpy()
    except TypeError:  # a kind of number that NumPy lacks, as bfloat16: float32 holds it exactly
        return tensor.to(torch.float32).numpy()


def _is_tensor(value: object) -> bool:
    return _is_a(value, "torch", "Tensor")


def _is_array(value: object) -> bool:
    return _is_a(value, "numpy", "ndarray")


def _is_a(value: object, module: str, name: str) -> bool:
    """Without an import: where the library is not loaded, nothing is one. (A user's module may be called so, too.)"""
    kind = getattr(sys.modules.get(module), name, None)
    return isinstance(kind, type) and isinstance(value, kind)


def _key_text(key: object) -> str:
    try:
        return ascii(key)[:80]
    except Exception:  # an object that cannot even say what it is
        return type(key).__name__


def _shown(value: object) -> str:
    """What it is, for people; the values of simple ones."""
    kind = f"{type(value).__module__}.{type(value).__qualname__}".removeprefix("builtins.")
    if isinstance(value, (str, bool, int, float)) or value is None:
        return f"{kind} {ascii(value)[:40]}" if not isinstance(value, int) or value.bit_length() < 200 else kind
    shape = getattr(value, "shape", None)
    return f"{kind} of shape {tuple(shape)}" if isinstance(shape, tuple) and shape else kind


def _advice(value: object) -> str:
    if isinstance(value, (set, frozenset)):
        return "; hand over `sorted(...)`"
    if hasattr(value, "isoformat"):
        return "; hand over its `.isoformat()`"
    if hasattr(value, "__fspath__"):
        return "; hand over `str(...)`"
    return ""


def unpack(value: Any, give: Callable[[str, Any], Any] | None = None) -> Any:
    """What `pack` was given. What is no such writing stays as it is: other programs write JSON, too.

    give: for tags that `keep` made up: called with the tag and what stands below it; raises KeyError for others.
    """
    if isinstance(value, list):
        return [unpack(item, give) for item in value]
    if not isinstance(value, dict):
        return value
    if len(value) == 1:
        ((tag, content),) = value.items()
        if isinstance(tag, str) and tag.startswith("$"):
            return _untagged(tag, content, value, give)
    return {key: unpack(item, give) for key, item in value.items()}


def _untagged(tag: str, content: Any, whole: dict[str, Any], give: Callable[[str, Any], Any] | None) -> Any:
    try:
        if tag in _READERS:
            return _READERS[tag](content, give)
        return whole if give is None else give(tag, content)
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError):
        return whole


def _read_array(content: Any, _: object) -> Any:
    import numpy as np

    data = [unpack(item) for item in content["data"]]
    return np.array(data, dtype=np.dtype(content["dtype"])).reshape(content["shape"])


_READERS: dict[str, Callable[[Any, Any], Any]] = {
    "$float": lambda content, _: _WORDS[content],
    "$int": lambda content, _: int(content, 16),
    "$tuple": lambda content, give: tuple(unpack(item, give) for item in content),
    "$map": lambda content, give: {unpack(key, give): unpack(item, give) for key, item in content},
    "$text": lambda content, _: bytes.fromhex(content).decode("utf-8", "surrogatepass"),
    "$bytes": lambda content, _: bytes.fromhex(content),
    "$array": _read_array,
}


def decode(data: bytes) -> dict[str, Any] | None:
    """A JSON mapping; None for whatever else stands there: half a line, another program's, nested without end."""
    try:
        found = _decoder.decode(data)
    except (msgspec.MsgspecError, ValueError, RecursionError, OverflowError, MemoryError):
        return None
    return found


def as_float(value: object) -> float | None:
    """A number that was read, as a float; None for anything else, and for a whole number beyond all floats."""
    if isinstance(value, bool) or not isinstance(value, (int, float)):
        return None
    try:
        return float(value)
    except OverflowError:
        return None


def as_count(value: object) -> int | None:
    """A step or a number of steps that was read: 0 to 2^63 - 1; None for anything else."""
    return value if isinstance(value, int) and not isinstance(value, bool) and 0 <= value < 1 << 63 else None


def measured(value: float) -> Any:
    """A measurement as a line of metrics has it: what JSON lacks by its name, as text."""
    return value if math.isfinite(value) else _word(value)


def read_measured(value: Any) -> int | float | None:
    """What `measured` was given; null, which earlier versions wrote for NaN and infinity, is NaN. None: no number."""
    if value is None:
        return math.nan
    if isinstance(value, str):
        return _WORDS.get(value)
    if isinstance(value, int) and not isinstance(value, bool) and _LEAST <= value < -_LEAST:
        return value
    return as_float(value)
