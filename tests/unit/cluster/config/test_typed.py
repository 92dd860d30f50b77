"""Words by the type of the place where they stand; unknown keys; what is said of values that do not fit."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated, Any, ClassVar

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from terry.cluster.config.typed import Reads, all_keys, convert, in_words, type_at, typed
from terry.cluster.config.words import NOTHING
from terry.cluster.config.yaml_file import Problem, parse
from terry.cluster.errors import UserError


class Colour(StrEnum):
    RED = "red"
    NO = "no"


@dataclass(frozen=True, slots=True, kw_only=True)
class Inner:
    depth: int = 1
    unit: str = "cm"


def _even(value: Any, _: Any) -> int:
    if not str(value).isdecimal() or int(value) % 2:
        raise ValueError(f"must be even, not {value}")
    return int(value)


@dataclass(frozen=True, slots=True, kw_only=True)
class Whole:
    name: str = ""
    maybe: str | None = None
    count: int = 0
    share: Annotated[float, msgspec.Meta(ge=0, lt=1)] = 0.0
    switch: bool = False
    duration: float | str = 1.0
    colour: Colour = Colour.RED
    colours: list[Colour] = field(default_factory=list)
    numbers: list[float] = field(default_factory=list)
    inner: Inner = field(default_factory=Inner)
    optional: Inner | None = None
    either: Inner | bool = False
    named: dict[str, Inner] = field(default_factory=dict)
    free: dict[str, Any] = field(default_factory=dict)
    even: Annotated[int, Reads(_even)] | None = None
    files: Any = field(default=None, metadata={"text": True})
    least: int = field(default=0, metadata={"key": "min"})
    options: dict[str, str] = field(default_factory=dict, metadata={"rest": "slurm_"})
    hidden: int = field(default=0, metadata={"key": "", "instead": "belongs elsewhere"})

    ALSO_CALLED: ClassVar = {"profundity": "depth", "number": "count"}


def read(text: str) -> Whole:
    return convert(parse(text, "f").value, Whole)


def said(text: str) -> str:
    with pytest.raises(Problem) as caught:
        read(text)
    return str(caught.value)


FORMS = [
    # a word, and what it is as: text, a number, a whole number, a switch, a free setting ("!" = refused)
    ("10", "10", 10.0, 10, "!", 10),
    ("1.10", "1.10", 1.1, "!", "!", 1.1),
    ("1e-4", "1e-4", 1e-4, "!", "!", 1e-4),
    ("1e3", "1e3", 1000.0, 1000, "!", 1000.0),
    ("1_000", "1_000", 1000.0, 1000, "!", 1000),
    ("0x1f", "0x1f", 31.0, 31, "!", 31),
    ("010", "010", "!", "!", "!", "010"),
    ("0123", "0123", "!", "!", "!", "0123"),
    ("4e2a91f", "4e2a91f", "!", "!", "!", "4e2a91f"),
    ("2e3-lstm", "2e3-lstm", "!", "!", "!", "2e3-lstm"),
    ("61e9540", "61e9540", "!", "!", "!", "61e9540"),
    ("16:9", "16:9", "!", "!", "!", "16:9"),
    ("22:22", "22:22", "!", "!", "!", "22:22"),
    ("2026-11-29", "2026-11-29", "!", "!", "!", "2026-11-29"),
    ("NO", "NO", "!", "!", False, "NO"),
    ("no", "no", "!", "!", False, "no"),
    ("on", "on", "!", "!", True, "on"),
    ("yes", "yes", "!", "!", True, "yes"),
    ("true", "true", "!", "!", True, True),
    ("False", "False", "!", "!", False, False),
    ("'10'", "10", "!", "!", "!", "10"),
    ("'true'", "true", "!", "!", "!", "true"),
    (".inf", ".inf", "!", "!", "!", "!"),
    ("99999999999999999999999", "9" * 23, "!", "!", "!", "9" * 23),
]


@pytest.mark.parametrize(("word", "text", "number", "whole", "switch", "free"), FORMS)
def test_a_word_is_what_its_place_makes_of_it(
    word: str, text: object, number: object, whole: object, switch: object, free: object
) -> None:
    places = {"name": text, "numbers": number, "count": whole, "switch": switch, "free": free}
    for place, expected in places.items():
        document = {"numbers": f"numbers: [{word}]", "free": f"free: {{a: {word}}}"}.get(place, f"{place}: {word}")
        if expected == "!":
            assert said(document)
            continue
        found = getattr(read(document), place)
        found = found[0] if place == "numbers" else found["a"] if place == "free" else found
        assert (found, type(found)) == (expected, type(expected))


@given(st.from_regex(r"[A-Za-z0-9_.+-][A-Za-z0-9_.+:/-]{0,14}[A-Za-z0-9]", fullmatch=True))
def test_text_is_to_the_letter_what_was_written(word: str) -> None:
    """The reference is the word itself, in each place that takes text: also as a key, in lists, in options."""
    if word in NOTHING or word.startswith(("-", ".")):
        return
    named = f"named: {{{word}: {{unit: {word}}}}}"
    found = read(f"name: {word}\nmaybe: {word}\nfiles: [{word}, {word}]\nslurm_begin: {word}\n{named}")
    assert (found.name, found.maybe, found.files, found.options) == (word, word, [word] * 2, {"begin": word})
    assert found.named == {word: Inner(unit=word)}
    assert {type(found.name), type(found.files[0]), *map(type, found.named)} == {str}


def test_sections_lists_and_what_is_left_out() -> None:
    found = read("inner:\noptional:\neither: on\ncolours: [red, no]\nduration: 5 min\nmin: 3\neven: 4\nnamed:\n")
    assert found == Whole(either=True, colours=[Colour.RED, Colour.NO], duration="5 min", least=3, even=4)
    assert read("either: {depth: 2}").either == Inner(depth=2)
    assert read("maybe: null\nfree: {a: ~}") == Whole(free={"a": None})


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("nam: x", "nam: unknown key; did you mean 'name'?"),
        ("depth: 3", "depth: unknown key; did you mean 'inner.depth'?"),
        ("profundity: 3", "profundity: unknown key; did you mean 'inner.depth'?"),
        ("number: 3", "number: unknown key; did you mean 'count'?"),
        ("inner: {profundity: 3}", "inner.profundity: unknown key; did you mean 'depth'?"),
        ("inner: {zzz: 3}", "inner.zzz: unknown key; valid here: depth, unit"),
        ("hidden: 3", "hidden: belongs elsewhere"),
        ("name: [a]", "name: must be text, not ['a']"),
        ("name: {a: b}", "name: must be text, not a mapping"),
        ("name:", "name: must be text, not nothing"),
        ("count: many", "count: must be a whole number, not 'many'"),
        ("count: 010", "count: must be a whole number, not '010'; write 10: a leading 0 could mean base 8"),
        ("count: 1.0", "count: must be a whole number, not 1.0"),
        ("count: '1'", "count: must be a whole number, not '1'"),
        ("count: true", "count: must be a whole number, not true"),
        ("numbers: [1, 61e9540]", "numbers[1]: must be a number, not '61e9540'; no 64-bit number holds it"),
        ("numbers: 3", "numbers: must be a list, such as [3], not 3"),
        ("share: 1", "share: must be a number, 0 or more, below 1, not 1"),
        ("switch: 1", "switch: must be true or false, not 1"),
        ("colour: reed", "colour: unknown value 'reed'; did you mean 'red'?"),
        ("colours: [reed]", "colours[0]: unknown value 'reed'; did you mean 'red'?"),
        ("inner: 3", "inner: must be a mapping of settings (`key: value`), not 3"),
        ("named: [a]", "named: must be a mapping (`key: value`), not ['a']"),
        ("even: 3", "even: must be even, not 3"),
        ("free: {a: {1: x}}", 'free.a.1: a key must be text: "1" in quotes is'),
        ("free: {true: x}", "free.true: a key must be text"),
        ("free: {a: [-.inf]}", "free.a[0]: -.inf cannot be kept"),
        ("duration: [1]", "duration: must be a number or text, not [1]"),
    ],
)
def test_what_is_said(text: str, expected: str) -> None:
    assert said(text).startswith(expected)


def test_a_file_names_its_line() -> None:
    document = parse("name: a\ninner:\n  depth: 1\n  unt: x\n", "f.yaml")
    with pytest.raises(Problem) as caught:
        typed(document.value, Whole)
    error = document.about(caught.value)
    assert isinstance(error, UserError)
    assert str(error) == "f.yaml:4: inner.unt: unknown key; did you mean 'unit'?"


def test_types_and_keys_are_found_by_their_path() -> None:
    assert type_at(Whole, ("inner", "depth")) is int
    assert type_at(Whole, ("free", "a", "b")) is Any
    assert type_at(Whole, ("min",)) is int
    with pytest.raises(Problem, match=r"did you mean 'inner\.depth'"):
        type_at(Whole, ("inner", "deth"))
    with pytest.raises(Problem, match="'count' has no settings of its own"):
        type_at(Whole, ("count", "x"))
    assert {"inner.depth", "named.NAME.unit", "min"} <= set(all_keys(Whole))
    assert in_words(Annotated[int, msgspec.Meta(ge=1)] | None) == "a whole number, 1 or more"
