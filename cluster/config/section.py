"""A mapping of a YAML file, with the lines of its keys: so that a mistake is named by file and line."""

from __future__ import annotations

import difflib
import re
from collections.abc import Iterable
from pathlib import Path

import yaml

from terry.cluster.errors import UserError

_DURATION = re.compile(r"\s*(\d+(?:\.\d+)?)\s*(s|sec|seconds?|m|min|minutes?|h|hours?|d|days?)?\s*", re.IGNORECASE)
_UNITS = {"s": 1.0, "m": 60.0, "h": 3600.0, "d": 86400.0}
_LONGEST_S = 3650 * 86400.0


class Section:
    """A mapping of the file, with the lines of its keys."""

    def __init__(self, node: yaml.Node, values: object, file: Path, name: str) -> None:
        self.file, self.name = file, name
        if not isinstance(node, yaml.MappingNode) or not isinstance(values, dict):
            raise UserError(f"{name} must be made of `key: value`", file=file, line=node.start_mark.line + 1)
        self.values = _as_written(node, values)
        self._line = node.start_mark.line + 1
        self._nodes: dict[object, tuple[int, yaml.Node]] = {}
        for key, value in node.value:
            line = key.start_mark.line + 1
            if key.value in self._nodes:
                raise UserError(f"{name} has the key {key.value!r} twice", file=file, line=line)
            self._nodes[key.value] = (line, value)

    def allow(self, keys: Iterable[str]) -> None:
        """Raise UserError for the first key that is none of these."""
        known = list(keys)
        for key, (line, _) in self._nodes.items():
            if key not in known:
                near = difflib.get_close_matches(str(key), known, n=1)
                hint = f"did you mean {near[0]!r}? It" if near else "it"
                raise UserError(
                    f"{self.name} has no key {key!r}; {hint} has: {', '.join(known)}", file=self.file, line=line
                )

    def has(self, key: str) -> bool:
        """True where the key is given."""
        return key in self._nodes

    def part(self, key: str) -> Section:
        """A section below this one."""
        if key not in self._nodes:
            raise self.error(key, "must be written out here; it cannot come from `<<`")
        return Section(self._nodes[key][1], self.values[key], self.file, key)

    def error(self, key: str, what: str) -> UserError:
        """An error at the key's line."""
        line = self._nodes[key][0] if self.has(key) else self._line
        return UserError(f"{self.name}.{key} {what}", file=self.file, line=line)


def _as_written(node: yaml.MappingNode, values: dict[object, object]) -> dict[str, object]:
    """The values by their keys as a person wrote them: a user may be called 1001 or on, which YAML reads otherwise."""
    names = [key.value for key, _ in node.value]
    if "<<" in names or len(names) != len(values):
        return {str(name): value for name, value in values.items()}
    return dict(zip(names, values.values(), strict=True))


def seconds(section: Section, key: str, default: float, *, least: float = 1.0) -> float:
    """A duration. Raises UserError where it is none, or shorter than `least`."""
    value = section.values.get(key, default)
    match = _DURATION.fullmatch(value) if isinstance(value, str) else None
    if match:
        value = float(match[1]) * _UNITS[(match[2] or "s")[0].lower()]
    if isinstance(value, bool) or not isinstance(value, int | float) or not least <= value <= _LONGEST_S:
        raise section.error(key, f"must be a duration such as '90 s', '5 min', '2 h' or '1 day', not {value!r}")
    return float(value)
