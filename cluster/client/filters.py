"""Selectors that say what a job must be: `state:failed`, `tag:paper`, `is:starred`, `setting:cell=gru`, `loss<4.5`.

Of one kind any is enough (`state:failed state:cancelled`), except figures, which must all hold (`loss<4 loss>2`); of
several kinds each must hold. A job without the figure or the setting is left out. Pure: what is known of jobs beyond
their records comes as functions.
"""

from __future__ import annotations

import math
import operator
import re
from collections.abc import Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from enum import StrEnum
from fnmatch import fnmatchcase
from typing import Any

from terry.cluster.core.model import JobRecord, JobState
from terry.cluster.errors import UserError, nearest

#: Whether a job is meant.
Match = Callable[[JobRecord], bool]

_KINDS = ("state", "tag", "is", "setting")
_FIGURE = re.compile(r"([A-Za-z_][\w.]*)\s*(<=|>=|<|>)\s*(.*)", re.ASCII)
_COMPARE: dict[str, Callable[[float, float], bool]] = {
    "<": operator.lt, "<=": operator.le, ">": operator.gt, ">=": operator.ge,
}  # fmt: skip


class Is(StrEnum):
    """What `is:` may be followed by."""

    starred = "starred"
    archived = "archived"
    removed = "removed"
    replaced = "replaced"
    any = "any"  #: also what is put away


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """What filters may want to know of a job."""

    figures: Callable[[JobRecord], Mapping[str, Any]] = field(default=lambda _: {})  #: what it measured, by name
    setting: Callable[[JobRecord, str], Any] = field(default=lambda *_: None)  #: a setting's value; None: it has none
    replaced: Collection[str] = ()  #: ids of jobs that another one has replaced


def is_filter(selector: str) -> bool:
    """True where it says what a job must be, not which one is meant."""
    return (selector.partition(":")[0] in _KINDS and ":" in selector) or _FIGURE.fullmatch(selector) is not None


def asks_for_hidden(filters: Sequence[str]) -> bool:
    """True where jobs that the views leave out are meant, too."""
    return any(f.startswith("is:") and _is(f[3:]) is not Is.starred for f in filters)


def matcher(filters: Sequence[str], facts: Facts) -> Match:
    """One function for all filters. UserError where one cannot be read."""
    kinds: dict[str, list[Match]] = {}
    for text in filters:
        kind, _, rest = text.partition(":")
        if kind not in _KINDS:
            kinds[text] = [_figure(text, facts)]
        else:
            kinds.setdefault(kind, []).append(_READERS[kind](rest, facts))
    groups = list(kinds.values())
    return lambda record: all(any(match(record) for match in group) for group in groups)


def _state(name: str, _: Facts) -> Match:
    try:
        state = JobState(name.lower())
    except ValueError:
        hint = nearest(name.lower(), map(str, JobState), "") or "."
        raise UserError(f"{name.lower()!r} is no state{hint} The states are {', '.join(JobState)}") from None
    return lambda record: record.state is state


def _tag(name: str, _: Facts) -> Match:
    return lambda record: any(fnmatchcase(tag, name) for tag in record.marks.tags)


def _is(name: str) -> Is:
    try:
        return Is(name.lower())
    except ValueError:
        hint = nearest(name.lower(), map(str, Is), "") or "."
        raise UserError(f"`is:{name}` is not known{hint} There are: {', '.join(f'is:{word}' for word in Is)}") from None


def _what(name: str, facts: Facts) -> Match:
    what = _is(name)
    if what is Is.replaced:
        return lambda record: record.job.id in facts.replaced
    return {
        Is.starred: lambda record: record.marks.starred,
        Is.archived: lambda record: record.marks.archived,
        Is.removed: lambda record: record.marks.removed_at is not None,
        Is.any: lambda _: True,
    }[what]


def _setting(text: str, facts: Facts) -> Match:
    key, equals, wanted = text.partition("=")
    if not key or not equals:
        raise UserError(f"`setting:{text}` cannot be read; write setting:KEY=VALUE, such as setting:model.cell=gru")
    return lambda record: _is_value(facts.setting(record, key), wanted)


def _is_value(value: object, wanted: str) -> bool:
    """Whether a setting has the value that somebody wrote: as text, as a glob, or as a number (1e-3 is 0.001)."""
    if value is None:
        return wanted in {"null", "none", "None"}
    if isinstance(value, bool):
        return wanted.lower() == str(value).lower()
    if isinstance(value, int | float):
        try:
            return math.isclose(float(wanted), value, rel_tol=1e-12)
        except ValueError:
            return False
    return fnmatchcase(str(value), wanted)


def _figure(text: str, facts: Facts) -> Match:
    found = _FIGURE.fullmatch(text)
    assert found is not None, "the caller looked"
    name, compare = found[1], _COMPARE[found[2]]
    try:
        bound = float(found[3])
    except ValueError:
        raise UserError(f"{text!r} cannot be read: {found[3]!r} is no number; write for example 'loss<4.5'") from None

    def match(record: JobRecord) -> bool:
        value = facts.figures(record).get(name)
        return isinstance(value, int | float) and not isinstance(value, bool) and compare(value, bound)

    return match


_READERS: dict[str, Callable[[str, Facts], Match]] = {"state": _state, "tag": _tag, "is": _what, "setting": _setting}
