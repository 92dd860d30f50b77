"""From the values of a YAML file to typed ones: unknown keys, wrong types, impossible values, each with its key.

A file is declared as dataclasses. A field's metadata may say `key` (what it is called in the file; empty: nothing that
stands there, and `instead` says what does), `rest` (it takes all keys that begin so), `text` (words in it stay text),
`must` (what a value must be, in words and as a function, where the class knows nothing of msgspec).
A type may be `Annotated` with `Reads` or with msgspec's `Meta`. A root class may have `ALSO_CALLED`: what people write
for a key, and the key.
"""

from __future__ import annotations

import dataclasses
import enum
import functools
import math
import re
import types
import typing
from collections.abc import Callable, Iterable, Iterator, Mapping
from typing import Annotated, Any, TypeVar

import msgspec

from terry.cluster.config import words
from terry.cluster.config.words import Plain
from terry.cluster.config.yaml_file import Problem, Where, dotted, plain
from terry.cluster.errors import nearest

T = TypeVar("T")
_MISSING = object()


class Reads:
    """Reads a value by a function of its own, which raises ValueError with what would be right, or Problem."""

    def __init__(self, read: Callable[[Any, Where], Any]) -> None:
        self.read = read


def convert(value: Any, kind: type[T], path: Where = (), root: Any = None) -> T:
    """Make a dataclass of a file's values. Raises Problem."""
    return build(typed(value, kind, path, root), kind, path)


def build(value: Any, kind: type[T], path: Where = ()) -> T:
    """Make a dataclass of typed values. Raises Problem."""
    try:
        return msgspec.convert(value, kind)
    except msgspec.ValidationError as error:
        raise _problem(str(error), path) from None


def typed(value: Any, kind: Any, path: Where = (), root: Any = None) -> Any:
    """`value` with every key known and every word of its type. Sections stay mappings of what was given, by field.

    root: the class of the whole file, in which keys are looked for that stand in the wrong place.
    """
    return _Typing(root or kind).value(value, kind, path)


class _Typing:
    def __init__(self, root: Any) -> None:
        self._root = root

    def value(self, value: Any, kind: Any, path: Where) -> Any:
        """See typed."""
        allowed = options(kind)
        reads = next((m for o in allowed for m in getattr(o, "__metadata__", ()) if isinstance(m, Reads)), None)
        if reads is not None and not (value is None and types.NoneType in allowed):
            return self._read(reads, value, path)
        section = section_of(kind)
        if section is not None and not _is_leaf_of(value, kind):
            return self._section(value, section, path)
        inner = next((o for o in allowed if typing.get_origin(o) in {dict, list, tuple}), None)
        if inner is not None and not (value is None and types.NoneType in allowed):
            return self._many(value, inner, path)
        return _free(value, path) if Any in allowed else leaf(value, kind, path)

    def _read(self, reads: Reads, value: Any, path: Where) -> Any:
        try:
            return reads.read(value, path)
        except Problem:
            raise
        except ValueError as error:
            raise Problem(str(error), path) from None

    def _section(self, value: Any, kind: Any, path: Where) -> dict[str, Any]:
        if value is None:
            return {}
        if not isinstance(value, Mapping):
            raise Problem(f"must be a mapping of settings (`key: value`), not {show(value)}", path)
        found: dict[str, Any] = {}
        for key, item in value.items():
            declared = keys_of(kind).get(str(key))
            if declared is None:
                rest = next((f for f in _rests(kind) if str(key).startswith(f.metadata["rest"])), None)
                if rest is None:
                    raise unknown((*path, str(key)), kind, self._root)
                name = str(key).removeprefix(rest.metadata["rest"])
                (inner,) = typing.get_args(_hints(kind)[rest.name])[1:]
                found.setdefault(rest.name, {})[name] = self.value(item, inner, (*path, str(key)))
            elif declared.metadata.get("text"):
                found[declared.name] = _text(item)
            else:
                where = (*path, str(key))
                found[declared.name] = _bounded(self.value(item, _hints(kind)[declared.name], where), declared, where)
        return found

    def _many(self, value: Any, kind: Any, path: Where) -> Any:
        inner = typing.get_args(kind)
        if typing.get_origin(kind) is dict:
            if value is None:
                return {}
            if not isinstance(value, Mapping):
                raise Problem(f"must be a mapping (`key: value`), not {show(value)}", path)
            if inner[1] is Any:
                return _free(value, path)
            return {str(key): self.value(item, inner[1], (*path, str(key))) for key, item in value.items()}
        if not isinstance(value, list | tuple):
            if is_open(value):
                return value
            raise Problem(f"must be a list, such as [{_example(value)}], not {show(value)}", path)
        return [self.value(item, inner[0], (*path, i)) for i, item in enumerate(value)]


def _bounded(value: Any, declared: dataclasses.Field[Any], path: Where) -> Any:
    words, holds = declared.metadata.get("must", ("", None))
    if holds is not None and value is not None and not is_open(value) and not holds(value):
        raise Problem(f"must {words}, not {show(value)}", path)
    return value


def leaf(value: Any, kind: Any, path: Where) -> Any:
    """A single value of its type; a word without quotes becomes what the type makes of it. Raises Problem."""
    found = _word(value, kind) if isinstance(value, Plain) else value
    allowed = options(kind)
    if str in allowed and int not in allowed and isinstance(found, int) and not isinstance(found, bool):
        found = str(found)  # of Python's values
    if is_open(found) or _fits(found, kind):
        return found
    choices = choices_at(kind)
    if isinstance(found, str) and choices and bool not in allowed:
        raise Problem(f"unknown value {str(found)!r}{nearest(found, choices)}", path)
    hint = words.why_no_number(value) if isinstance(value, str) and _numeric(allowed) else ""
    if hint == "" and isinstance(value, str) and _fits(_word(Plain(value), kind), kind):
        hint = "; leave the quotes out"
    if isinstance(value, list) and path[:1] == ("run",):
        hint = f"; what varies stands below `sweep: grid:`, as `{dotted(path[1:])}: [...]`"
    raise Problem(f"must be {in_words(kind)}, not {show(value)}{hint}", path)


def _word(text: Plain, kind: Any) -> Any:
    """What a word without quotes is where this type stands."""
    allowed = [_bare(option) for option in options(kind)]
    if bool in allowed and (found := words.boolean(text, switch=str not in allowed)) is not None:
        return found
    if _numeric(allowed) and (number := words.number(text)) is not None:
        whole = isinstance(number, float) and float not in allowed and "." not in text and number.is_integer()
        return int(number) if whole else number  # `1e5` steps
    return str(text)


def _numeric(allowed: Iterable[Any]) -> bool:
    return any(_bare(option) in (int, float) for option in allowed)


def _bare(kind: Any) -> Any:
    return typing.get_args(kind)[0] if typing.get_origin(kind) is Annotated else kind


def _fits(value: Any, kind: Any) -> bool:
    try:
        msgspec.convert(value, kind)
    except msgspec.ValidationError:
        return False
    return not isinstance(value, float) or math.isfinite(value)


def _free(value: Any, path: Where) -> Any:
    """Values where anything may stand; a key is text there, too."""
    if isinstance(value, Plain):
        if value.lower().lstrip("+-") in {".inf", ".nan"}:
            raise Problem(f"{value} cannot be kept: it is not finite; put it in quotes if it is text", path)
        return words.meaning(value)
    if isinstance(value, Mapping):
        for key in value:
            if isinstance(key, Plain) and (key in words.NOTHING or not isinstance(words.meaning(key), str)):
                raise Problem(f'a key must be text: "{key}" in quotes is', (*path, str(key)))
        return {str(key): _free(item, (*path, str(key))) for key, item in value.items()}
    return [_free(item, (*path, i)) for i, item in enumerate(value)] if isinstance(value, list | tuple) else value


def _text(value: Any) -> Any:
    if isinstance(value, list):
        return [_text(item) for item in value]
    return str(value) if isinstance(value, Plain) else value


def is_open(value: Any) -> bool:
    """True for what is known only when OmegaConf has filled it in."""
    return isinstance(value, str) and "${" in value


def _is_leaf_of(value: Any, kind: Any) -> bool:
    """True where a section may be a single value instead, and is one: `preemption: true`, `anneal:` left empty."""
    if is_open(value) or isinstance(value, Mapping):
        return is_open(value)
    return any(_fits(_word(value, o) if isinstance(value, Plain) else value, o) for o in options(kind))


# what a type is


def options(kind: Any) -> tuple[Any, ...]:
    """The types of a union, or the one that it is."""
    if typing.get_origin(kind) in {typing.Union, types.UnionType}:
        return typing.get_args(kind)
    return (kind,)


def section_of(kind: Any) -> Any:
    """The dataclass that a type is, or may be; None where there is none."""
    return next((o for o in map(_bare, options(_bare(kind))) if dataclasses.is_dataclass(o)), None)


@functools.cache
def _hints(kind: type) -> dict[str, Any]:
    return typing.get_type_hints(kind, include_extras=True)


@functools.cache
def keys_of(kind: type) -> dict[str, dataclasses.Field[Any]]:
    """The keys of a dataclass in a file."""
    named = {f.metadata.get("key", f.name): f for f in dataclasses.fields(kind)}
    return {key: f for key, f in named.items() if key and "rest" not in f.metadata}


def _rests(kind: type) -> list[dataclasses.Field[Any]]:
    return [f for f in dataclasses.fields(kind) if "rest" in f.metadata]


def fields_of(kind: Any) -> dict[str, Any]:
    """Keys and types of the settings of a dataclass, also of one that may be left out; none of anything else."""
    found = section_of(kind)
    return {} if found is None else {key: _hints(found)[f.name] for key, f in keys_of(found).items()}


def choices_at(kind: Any) -> list[str]:
    """Values of the enum, or of the enum in the list, that a type is; `true` and `false` of a bool; else none."""
    if bool in options(kind):
        return ["true", "false"]
    inside = [o for option in options(kind) for o in typing.get_args(option) or (option,)]
    return [str(member.value) for o in inside if isinstance(o, type) and issubclass(o, enum.Enum) for member in o]


def type_at(kind: Any, path: Where, root: Any = None) -> Any:
    """Type of the field at a dotted path. Raises Problem with the nearest valid key."""
    whole = kind
    for depth, name in enumerate(path):
        section = section_of(kind)
        if section is None:
            if any(o is Any or typing.get_origin(o) is dict for o in options(kind)):
                return Any
            raise Problem(f"{'.'.join(map(str, path[:depth]))!r} has no settings of its own", path)
        declared = keys_of(section).get(str(name))
        if declared is None:
            found = unknown(path[: depth + 1], section, root or whole, spelt=True)
            raise Problem(found.message, path)
        kind = Any if declared.metadata.get("text") else _hints(section)[declared.name]
    return kind


# what is said of mistakes


def unknown(path: Where, section: Any, root: Any, *, spelt: bool = False) -> Problem:
    """The error of a key that a section lacks. spelt: suggestions are whole dotted keys."""
    name = str(path[-1])
    own = [*keys_of(section), *(f"{f.metadata['rest']}*" for f in _rests(section))]
    before = "".join(f"{part}." for part in path[:-1]) if spelt else ""
    instead = next((f.metadata["instead"] for f in dataclasses.fields(section) if _is_instead(f, name)), "")
    if instead:
        return Problem(instead, path)
    called = getattr(root, "ALSO_CALLED", {}).get(name.lower().replace("-", "_"), name)
    if called != name and called in own:
        return Problem(f"unknown key; did you mean {before + called!r}?", path)
    elsewhere = _elsewhere(root, name) or _elsewhere(root, called)
    first, _, rest = name.partition(".")
    if rest and first in own:
        return Problem(f"unknown key; write `{first}:`, and `{rest}:` below it", path)
    if "." in elsewhere and hasattr(section, "BELOW"):
        return Problem(f"unknown key; did you mean {section.BELOW + elsewhere.partition('.')[2]!r}?", path)
    if elsewhere:
        return Problem(f"unknown key; did you mean {elsewhere!r}?", path)
    return Problem(f"unknown key{nearest(before + name, (before + key for key in own))}", path)


def _is_instead(field: dataclasses.Field[Any], name: str) -> bool:
    return field.name == name and "instead" in field.metadata


def _elsewhere(root: Any, name: str) -> str:
    """The dotted key that ends so anywhere in the file; empty where there is none."""
    return next((key for key in all_keys(root) if f".{key}".endswith(f".{name}")), "")


def all_keys(kind: Any, path: str = "", depth: int = 0) -> Iterator[str]:
    """All dotted keys, those nearest to the top first."""
    found = fields_of(kind)
    yield from (f"{path}{key}" for key in found)
    for key, inner in found.items():
        item = next((typing.get_args(o)[1] for o in options(inner) if typing.get_origin(o) is dict), None)
        below = inner if item is None else item
        if depth < 4 and section_of(below) is not None:
            yield from all_keys(below, f"{path}{key}." if item is None else f"{path}{key}.NAME.", depth + 1)


_WORDS = {int: "a whole number", float: "a number", str: "text", bool: "true or false", Any: "anything"}


def in_words(kind: Any) -> str:
    """What a type is, for people: `a whole number, 1 or more`."""
    found = [words for option in options(kind) if (words := _option_in_words(option))]
    return " or ".join(dict.fromkeys(found))


def _option_in_words(kind: Any) -> str:
    if kind is types.NoneType:
        return ""
    signs = {"ge": "{} or more", "gt": "above {}", "le": "at most {}", "lt": "below {}"}
    metas = [m for m in getattr(kind, "__metadata__", ()) if isinstance(m, msgspec.Meta)]
    bounds = [s.format(getattr(m, name)) for m in metas for name, s in signs.items() if getattr(m, name) is not None]
    bare = _bare(kind)
    if isinstance(bare, type) and issubclass(bare, enum.Enum):
        return f"one of {', '.join(str(member.value) for member in bare)}"
    return ", ".join([_WORDS.get(bare, "a mapping" if dataclasses.is_dataclass(bare) else str(bare)), *bounds])


def show(value: Any) -> str:
    """A value as a message shows it."""
    if isinstance(value, Mapping):
        return "a mapping"
    if value is None:
        return "nothing"
    known = plain(value)
    if isinstance(known, bool) or (isinstance(value, Plain) and not isinstance(known, str)):
        return str(value).lower()
    text = repr(known)
    return text if len(text) <= 80 else f"{text[:70]}...{text[-7:]}"


def _example(value: Any) -> str:
    return "a, b" if value is None or isinstance(value, Mapping) else str(value)[:40]


def _problem(message: str, path: Where) -> Problem:
    """Turn msgspec's message into ours: what a dataclass's own check says, and where."""
    match = re.fullmatch(r"(.*) - at `([^`]*)`", message, re.DOTALL)
    text, place = (match[1], match[2]) if match else (message, "$")
    inner = tuple(part for part in re.split(r"[.\[]", place.removeprefix("$")) if part and not part.endswith("]"))
    lacks = re.fullmatch(r"Object missing required field `([^`]+)`", text)
    if lacks:
        return Problem("is missing", (*path, *inner, lacks[1]))
    named = re.match(r"[a-z_]+(\.[a-z_]+)+(?= )", text)
    if named and tuple(named[0].split("."))[: len(path) + len(inner)] == (*path, *inner):
        return Problem(text[named.end() :].lstrip(), tuple(named[0].split(".")))  # it begins with its own dotted key
    return Problem(text, (*path, *inner))


# values that are the same everywhere


def _duration(value: Any, least: float, most: float = 3650 * 86400.0) -> float:
    """A duration in seconds. Raises ValueError where it is none, or shorter or longer than that."""
    try:
        found = words.seconds(value)
    except (ValueError, TypeError):
        found = -1.0
    if not least <= found <= most:
        raise ValueError(f"must be a duration such as '90 s', '5 min', '2 h' or '1 day', not {show(value)}")
    return found


Duration = Annotated[float, Reads(lambda value, _: _duration(value, 1.0))]
Pause = Annotated[float, Reads(lambda value, _: _duration(value, 0.0))]
Patience = Annotated[float, Reads(lambda value, _: _duration(value, 0.001, 3600.0))]
Count = Annotated[int, msgspec.Meta(ge=0)]
CountFrom1 = Annotated[int, msgspec.Meta(ge=1)]


# settings as nested mappings


def flatten(value: Mapping[str, Any], prefix: str = "") -> dict[str, Any]:
    """Nested mappings as dotted keys; an empty mapping stays as it is."""
    flat: dict[str, Any] = {}
    for key, item in value.items():
        if isinstance(item, Mapping) and item:
            flat.update(flatten(item, f"{prefix}{key}."))
        else:
            flat[f"{prefix}{key}"] = item
    return flat


def put(value: dict[str, Any], path: Where, item: Any) -> None:
    """Set one key in nested mappings. Inner mappings are copied, so that `value` may share them with others."""
    for name in path[:-1]:
        inner = value.get(str(name))
        value[str(name)] = dict(inner) if isinstance(inner, Mapping) else {}
        value = value[str(name)]
    value[str(path[-1])] = item
