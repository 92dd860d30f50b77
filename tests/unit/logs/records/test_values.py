"""What people's code hands over: kept exactly, or refused with its name."""

from __future__ import annotations

import fractions
import math
from datetime import date
from decimal import Decimal
from pathlib import Path
from typing import Any

import msgspec
import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from terry.logs.records.values import ARRAY_LIMIT, Refused, decode, number, pack, unpack, whole

NUMPY_NUMBERS = [np.float16, np.float32, np.float64, np.int8, np.int16, np.int32, np.int64, np.uint8, np.uint64]

scalars = (
    st.none()
    | st.booleans()
    | st.integers()
    | st.integers(-(1 << 200), 1 << 200)
    | st.floats()
    | st.text(st.characters(exclude_categories=[]))
    | st.binary(max_size=9)
    | st.integers(0, 100).map(lambda i: NUMPY_NUMBERS[i % len(NUMPY_NUMBERS)](i))
    | st.floats(width=32).map(np.float32)
    | st.just(torch.tensor(2.5, dtype=torch.bfloat16))
)
keys = st.text(st.characters(exclude_categories=[])) | st.integers() | st.booleans() | st.none() | st.floats()
keys |= st.tuples(st.integers(), st.text()) | st.just("$float") | st.just("$map")
values = st.recursive(
    scalars,
    lambda inner: (
        st.lists(inner, max_size=4)
        | st.lists(inner, max_size=4).map(tuple)
        | st.dictionaries(keys, inner, max_size=4)
        | st.dictionaries(st.text(max_size=3), inner, max_size=4)
    ),
    max_leaves=20,
)


def same(one: Any, other: Any) -> bool:
    """Equal, of the same shape, and NaN where NaN is."""
    if isinstance(one, dict):
        pairs = zip(one.items(), other.items(), strict=True)
        return type(other) is dict and all(same(a, c) and same(b, d) for (a, b), (c, d) in pairs)
    if isinstance(one, (list, tuple)):
        return type(one) is type(other) and all(same(a, b) for a, b in zip(one, other, strict=True))
    if isinstance(one, (np.generic, torch.Tensor)):
        one = one.item()
    if isinstance(one, float):
        return isinstance(other, float) and (repr(one) == repr(other))
    return type(one) is type(other) and one == other


@given(values)
@example({"$float": "NaN"})
@example({1: {"1": 2}, False: 3.0, None: (), (1, "a"): [math.nan, -math.inf, -0.0]})
@example(["\ud800", {"\udfff": "\ud800\udc00"}])
def test_any_nested_value_comes_back_as_it_was(value: Any) -> None:
    data = msgspec.json.encode({"value": pack(value, "value")})
    found = decode(data)
    assert found is not None
    assert same(value, unpack(found["value"]))


@given(st.recursive(st.none() | st.floats() | st.text(), lambda i: st.lists(i) | st.dictionaries(st.text(), i)))
@example({"$float": 3})
@example({"$array": {"dtype": "no", "data": [1]}})
@example({"$map": [[[1], 2]]})
@example({"$text": "zz"})
@example({"$tensor": "x"})
def test_reading_survives_what_others_wrote(value: Any) -> None:
    unpack(value)


@pytest.mark.parametrize(
    "array",
    [
        np.arange(6, dtype=np.float32).reshape(2, 3) / 7,
        np.array([math.nan, math.inf, 1e-300]),
        np.array([1 << 63], dtype=np.uint64),
        np.zeros((0, 3), dtype=np.int8),
        np.array([True, False]),
        np.arange(9)[::-2],
    ],
)
def test_arrays_come_back_with_their_kind_and_shape(array: np.ndarray[Any, Any]) -> None:
    found = unpack(msgspec.json.decode(msgspec.json.encode(pack(array, "a"))))
    assert (found.dtype, found.shape) == (array.dtype, array.shape)
    np.testing.assert_array_equal(found, array)


def test_a_tensor_comes_back_as_an_array_of_equal_numbers() -> None:
    found = unpack(pack(torch.tensor([0.1, 2.0], dtype=torch.bfloat16, requires_grad=True), "t"))
    np.testing.assert_array_equal(found, torch.tensor([0.1, 2.0], dtype=torch.bfloat16).float().numpy())


class _Mute:
    def __repr__(self) -> str:
        raise RuntimeError("no")


@pytest.mark.parametrize(
    ("value", "what"),
    [
        ({"a": [1, {2, 3}]}, r"state\['a'\]\[1\].*set.*sorted"),
        ({"a": {1: object()}}, r"state\['a'\]\[1\].*object"),
        ({_Mute(): 1}, r"state: the key _Mute"),
        ({"a": 1j}, r"state\['a'\].*complex"),
        ({"a": np.complex64(1)}, r"state\['a'\].*complex64"),
        ({"a": np.array(["x"])}, r"state\['a'\].*<U1"),
        ({"a": np.array([object()])}, r"state\['a'\].*object"),
        ({"a": np.zeros(ARRAY_LIMIT + 1)}, r"state\['a'\] has 100,001 numbers"),
        ({"a": torch.eye(2).to_sparse()}, r"state\['a'\].*to_dense"),
        ({"a": torch.zeros(1, device="meta")}, r"state\['a'\]"),
        ({"a": Decimal("0.1")}, r"state\['a'\].*Decimal"),
        ({"a": fractions.Fraction(1, 3)}, r"state\['a'\].*Fraction"),
        ({"a": date(2026, 1, 2)}, r"state\['a'\].*isoformat"),
        ({"a": Path("x")}, r"state\['a'\].*str"),
    ],
)
def test_what_has_no_equal_is_refused_by_name(value: Any, what: str) -> None:
    with pytest.raises(Refused, match=what):
        pack(value, "state")


def test_what_contains_itself_is_refused() -> None:
    value: list[Any] = []
    value.append(value)
    with pytest.raises(Refused, match="contains itself"):
        pack(value, "state")


@pytest.mark.parametrize(
    ("value", "expected"),
    [
        (True, 1),
        (3, 3),
        (np.mean(np.array([1, 2])), 1.5),
        (np.float32(0.1), float(np.float32(0.1))),
        (np.int64(7), 7),
        (np.bool_(True), 1),
        (np.array([[2.5]]), 2.5),
        (torch.tensor(0.25, requires_grad=True), 0.25),
        (torch.tensor([3]), 3),
        (1 << 70, float(1 << 70)),
        (fractions.Fraction(1, 4), 0.25),
        (math.inf, math.inf),
    ],
)
def test_a_measurement_is_a_number_of_any_kind(value: Any, expected: float) -> None:
    assert number(value, "loss") == expected


@pytest.mark.parametrize(
    "value", ["0.1", None, [1.0], torch.zeros(2), torch.zeros(0), np.zeros(0), 1j, (1 << 70) + 1, 10**400, object()]
)
def test_anything_else_is_refused_with_the_name_of_the_measurement(value: Any) -> None:
    with pytest.raises(Refused, match=r"^loss "):
        number(value, "loss")


@pytest.mark.parametrize("value", [-1, 1 << 63, 1.5, 3.0, True, "3", None, torch.zeros(2)])
def test_a_step_is_a_whole_number(value: Any) -> None:
    with pytest.raises(Refused, match=r"^step must be a whole number"):
        whole(value, "step")


def test_a_step_may_come_from_numpy_or_torch() -> None:
    assert (whole(np.int64(3), "step"), whole(torch.tensor(4), "step")) == (3, 4)


@pytest.mark.parametrize(
    "data", [b"", b"[1]", b'{"a": 1', b'{"a":' + b"[" * 100_000, b'{"a": 1e400}', b"\xff\xfe", b"null"]
)
def test_what_is_no_mapping_is_none(data: bytes) -> None:
    assert decode(data) is None
