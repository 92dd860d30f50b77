"""Keys with their kind, default and meaning, as their classes say."""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import StrEnum
from typing import Annotated

import msgspec

from terry.cluster.config.described import as_yaml, described
from terry.jobs.sweeps.spec import SweepFile


class Colour(StrEnum):
    """Of a whale."""

    WHITE = "white"  #: the one
    GREY = "grey"


@dataclass(frozen=True, slots=True, kw_only=True)
class Whale:
    """Below a name."""

    depth: Annotated[int, msgspec.Meta(ge=1)]  #: fathoms
    #: seen from
    #: afar
    colour: Colour = Colour.GREY


@dataclass(frozen=True, slots=True, kw_only=True)
class Log:
    """A file."""

    speed: float = field(
        default=0.5, metadata={"key": "knots", "must": ("be more than 0", lambda v: v > 0)}
    )  #: over ground
    seen: dict[str, Whale] = field(default_factory=dict)
    hidden: str = field(default="", metadata={"key": ""})


def test_keys_are_told_as_the_file_has_them() -> None:
    found = {each.key: each for each in described(Log)}
    assert list(found) == ["knots", "seen", "seen.NAME.depth", "seen.NAME.colour"]
    knots, depth, colour = found["knots"], found["seen.NAME.depth"], found["seen.NAME.colour"]
    assert (knots.kind, knots.shown, knots.meaning) == ("a number that must be more than 0", "0.5", "over ground")
    assert (depth.kind, depth.needed, depth.shown) == ("a whole number, 1 or more", True, "(needed)")
    assert (colour.default, colour.meaning) == ("grey", "seen from afar")
    assert colour.choices == {"white": "the one", "grey": ""}


def test_defaults_are_yaml_in_a_line() -> None:
    assert [as_yaml(value) for value in ([0.9, 0.999], True, None, "60 s", {})] == [
        "[0.9, 0.999]",
        "true",
        "",
        "60 s",
        "",
    ]


def test_every_key_of_a_sweep_file_says_what_it_means() -> None:
    found = list(described(SweepFile))
    assert len(found) > 120
    assert [each.key for each in found if not each.meaning] == []
    assert [each.key for each in found if "typing" in each.kind or "<class" in each.kind] == []
