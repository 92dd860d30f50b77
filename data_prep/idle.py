"""Settings that do nothing where they stand, found by one rule for every section of a sweep file.

A field says in its metadata where it has an effect: `field(default=2.0, metadata={"applies": ("schedule: divide",
lambda config: config.schedule is Schedule.divide)})`. The words are for people; the function gets the section that the
field stands in. A setting is idle where it was changed from its default and the function says no. Sections of any
package can declare this: it takes no import.

Standard library only: the command line imports this before anything heavy.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from functools import cache
from typing import Any

#: What a field's metadata holds under `applies`: in words, and as a function of the section.
Rule = tuple[str, Callable[[Any], bool]]


@dataclass(frozen=True, slots=True, kw_only=True)
class Idle:
    """A setting that does nothing."""

    #: where it stands, from the section that was looked at: `("anneal", "patience")`
    path: tuple[str, ...]
    #: what it is set to
    value: Any
    #: what it would need, as `schedule: divide`
    needs: str

    def describe(self, prefix: str = "") -> str:
        """In words, the key with a prefix such as `optimizer.`."""
        return f"{prefix}{'.'.join(self.path)} does nothing here: it needs {self.needs}"


def idle_settings(section: Any, path: tuple[str, ...] = ()) -> Iterator[Idle]:
    """The idle settings of a section and of those inside it, in their order."""
    kind: Any = type(section)
    for name, default, rule, nested in _fields(kind):
        value = getattr(section, name)
        if rule is not None and value != default and not rule[1](section):
            yield Idle(path=(*path, name), value=value, needs=rule[0])
        elif nested and value is not None:
            yield from idle_settings(value, (*path, name))


def applies(section: Any, path: tuple[str, ...]) -> bool:
    """Whether the setting at a path of a section has an effect there, whatever it is set to."""
    for name in path[:-1]:
        section = getattr(section, name)
        if section is None:
            return False
    rule = next(field.metadata.get("applies") for field in dataclasses.fields(section) if field.name == path[-1])
    return rule is None or bool(rule[1](section))


@cache
def _fields(kind: Any) -> list[tuple[str, Any, Rule | None, bool]]:
    """Of each field that can be idle, or holds some that can: name, default, rule, whether it is a section."""
    found = []
    for field in dataclasses.fields(kind):
        default = field.default if field.default_factory is dataclasses.MISSING else field.default_factory()
        rule, nested = field.metadata.get("applies"), dataclasses.is_dataclass(default)
        if rule is not None or nested:
            found.append((field.name, default, rule, nested))
    return found
