"""From plain values to typed ones: unknown keys, wrong types and impossible values, each with the key and its line."""

from __future__ import annotations

import dataclasses
import difflib
import enum
import functools
import re
import types
import typing
from collections.abc import Iterable, Mapping
from typing import Any, TypeVar

import msgspec

T = TypeVar("T")

#: Where a key stands inside a value: `("model", "cell")`.
Path = tuple[str, ...]


class Problem(ValueError):
    """One thing that is wrong with a configuration, and the key that it is about."""

    def __init__(self, message: str, path: Path) -> None:
        self.path = path
        self.message = message
        super().__init__(f"{'.'.join(path)}: {message}" if path else message)


def nearest(name: str, valid: Iterable[str]) -> str:
    """` (did you mean …?)`, or the list of what would be valid."""
    names = list(valid)
    close = difflib.get_close_matches(name, names, n=1, cutoff=0.6)
    if close:
        return f"; did you mean {close[0]!r}?"
    return f"; valid here: {', '.join(names)}" if names else ""


def convert(value: Any, kind: type[T], path: Path = ()) -> T:
    """Make a dataclass of plain values. Raises Problem."""
    return convert_known(known(value, kind, path), kind, path)


def convert_known(value: Any, kind: type[T], path: Path = ()) -> T:
    """The same for values that `known` has seen. Raises Problem."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _problem(str(error), path, kind) from None


def known(value: Any, kind: Any, path: Path = ()) -> Any:
    """`value` with every key known to the dataclass `kind`; numbers stand as text where only text is meant."""
    if dataclasses.is_dataclass(kind):
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise Problem(f"must be a mapping of settings, not {_show(value)}", path)
        fields = _fields(typing.cast("type", kind))
        for key in value:
            if key not in fields:
                raise Problem(f"unknown key{nearest(str(key), fields)}", (*path, str(key)))
        return {key: known(item, fields[key], (*path, key)) for key, item in value.items()}
    options = _options(kind)
    if str in options and int not in options and isinstance(value, int) and not isinstance(value, bool):
        return str(value)
    nested = next((o for o in options if dataclasses.is_dataclass(o)), None)
    if nested is not None and isinstance(value, Mapping):
        return known(value, nested, path)
    if typing.get_origin(kind) is dict and isinstance(value, Mapping):
        item_kind = typing.get_args(kind)[1]
        return {key: known(item, item_kind, (*path, str(key))) for key, item in value.items()}
    return value


def type_at(kind: Any, path: Path) -> Any:
    """Type of the field at a dotted path. Raises Problem with the nearest valid key."""
    for depth, name in enumerate(path):
        options = [o for o in _options(kind) if dataclasses.is_dataclass(o) or typing.get_origin(o) is dict or o is Any]
        if not options:
            raise Problem(f"{'.'.join(path[:depth])!r} has no settings of its own", path)
        if not dataclasses.is_dataclass(options[0]):
            return Any
        fields = _fields(typing.cast("type", options[0]))
        if name not in fields:
            prefix = path[:depth]
            raise Problem(f"unknown key{nearest('.'.join(path), ('.'.join((*prefix, f)) for f in fields))}", path)
        kind = fields[name]
    return kind


@functools.cache
def _fields(kind: type) -> dict[str, Any]:
    hints = typing.get_type_hints(kind)
    return {f.name: hints[f.name] for f in dataclasses.fields(kind)}


def _options(kind: Any) -> tuple[Any, ...]:
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        return typing.get_args(kind)
    return (kind,)


_PLACE = re.compile(r"^(?P<message>.*) - at `(?P<place>[^`]*)`$", re.DOTALL)
_KEY = re.compile(r"[a-z_]+(\.[a-z_]+)+(?= )")
_WORDS = {
    "int": "a whole number",
    "float": "a number",
    "str": "text",
    "bool": "true or false",
    "array": "a list",
    "object": "a mapping",
    "null": "nothing (null)",
}


def _problem(message: str, path: Path, kind: Any) -> Problem:
    """Turn msgspec's message into ours: ``Expected `int`, got `str` - at `$.model.layers` ``."""
    match = _PLACE.match(message)
    text, place = (match["message"], match["place"]) if match else (message, "$")
    inner = tuple(part for part in re.split(r"[.\[]", place.removeprefix("$")) if part and not part.endswith("]"))
    expected = re.fullmatch(r"Expected `([^`]+)`, got `([^`]+)`", text)
    if expected:
        text = f"must be {_in_words(expected[1], ' or ')}, not {_in_words(expected[2], ' or ')}"
    named = _KEY.match(text)
    if named and tuple(named[0].split("."))[: len(path) + len(inner)] == (*path, *inner):
        return Problem(text[named.end() :].lstrip(), tuple(named[0].split(".")))  # it begins with its own dotted key
    unknown = re.fullmatch(r"Invalid enum value '(.*)'", text, re.DOTALL)
    if unknown:
        text = f"unknown value {unknown[1]!r}{nearest(unknown[1], _choices(kind, inner))}"
    return Problem(text, (*path, *inner))


def _choices(kind: Any, path: Path) -> list[str]:
    """Values of the enum, or of the enum in the list, that stands at a path below `kind`; none where there is none."""
    try:
        found = type_at(kind, path)
    except Problem:
        return []
    return choices_at(found)


def fields_of(kind: Any) -> dict[str, Any]:
    """Names and types of the settings of a dataclass, also of one that may be left out; none of anything else."""
    found = next((o for o in _options(kind) if dataclasses.is_dataclass(o)), None)
    return {} if found is None else _fields(typing.cast("type", found))


def choices_at(found: Any) -> list[str]:
    """Values of the enum, or of the enum in the list, that a type is; `true` and `false` of a bool; else none."""
    if bool in _options(found):
        return ["true", "false"]
    inside = [o for option in _options(found) for o in typing.get_args(option) or (option,)]
    return [str(member.value) for o in inside if isinstance(o, type) and issubclass(o, enum.Enum) for member in o]


def _in_words(names: str, joint: str) -> str:
    return joint.join(_WORDS.get(name.strip(), name.strip()) for name in names.split("|") if name.strip() != "null")


def _show(value: Any) -> str:
    return f"{value!r}" if isinstance(value, (str, int, float, bool)) or value is None else f"a {type(value).__name__}"


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; an empty mapping stays as it is."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def put(value: dict[str, Any], path: Path, item: Any) -> None:
    """Set one key in nested mappings. Inner mappings are copied, so that `value` may share them with others."""
    for name in path[:-1]:
        inner = value.get(name)
        value[name] = dict(inner) if isinstance(inner, Mapping) else {}
        value = value[name]
    value[path[-1]] = item
