"""What comes of a file of another tool: a sweep file's contents, and what is left out, as text."""

from __future__ import annotations

import re
import textwrap
from dataclasses import dataclass, field
from typing import Any

import yaml

#: Text that needs no quotes: to every reader it is text, and the same one.
_PLAIN = re.compile(r"[A-Za-z_/][\w./+-]*")
_WORDS = {"true", "false", "yes", "no", "on", "off", "null", "none", "nan", "inf", "y", "n"}
#: Points drawn where the file does not say how many.
COUNT = 10


@dataclass(kw_only=True)
class Brought:
    """A sweep file in the making."""

    tool: str  #: whose file it was
    name: str
    command: list[str] = field(default_factory=list)
    run: dict[str, Any] = field(default_factory=dict)  #: below `run:`, beside command and parameters
    parameters: dict[str, Any] = field(default_factory=dict)  #: the same for all runs
    grid: dict[str, list[Any]] = field(default_factory=dict)  #: by parameter
    draws: dict[str, dict[str, Any]] = field(default_factory=dict)  #: distributions by parameter
    count: int | None = None
    left_out: list[str] = field(default_factory=list)  #: what is not carried over, and what helps

    def document(self) -> dict[str, Any]:
        """As the sweep file has it."""
        run: dict[str, Any] = {"command": self.command, **self.run}
        if self.parameters:
            run["parameters"] = self.parameters
        sweep: dict[str, Any] = {}
        if self.grid:
            sweep["grid"] = {f"parameters.{name}": values for name, values in self.grid.items()}
        if self.draws:
            drawn = {f"parameters.{name}": draw for name, draw in self.draws.items()}
            sweep["random"] = {"count": self.count or COUNT, "distributions": drawn}
        return {"name": self.name, "run": run} | ({"sweep": sweep} if sweep else {})

    def text(self) -> str:
        """The sweep file."""
        lines = [f"# Made of a file of {self.tool} by `terry-cluster import`."]
        if self.left_out:
            lines.append("# Not carried over:")
        for note in self.left_out:
            lines += textwrap.wrap(note, 110, initial_indent="# - ", subsequent_indent="#   ")
        dumped = yaml.dump(self.document(), Dumper=_Dumper, sort_keys=False, allow_unicode=True, width=110)
        return "\n".join(lines) + f"\n{dumped}"


class _Dumper(yaml.SafeDumper):
    """Text in quotes wherever somebody might take it for something else, flat lists in one line."""


def _text(dumper: yaml.SafeDumper, value: str) -> yaml.Node:
    plain = _PLAIN.fullmatch(value) and value.lower() not in _WORDS
    return dumper.represent_scalar("tag:yaml.org,2002:str", value, style=None if plain else '"')


def _list(dumper: yaml.SafeDumper, values: list[Any]) -> yaml.Node:
    return dumper.represent_sequence("tag:yaml.org,2002:seq", values, flow_style=True)


_Dumper.add_representer(str, _text)
_Dumper.add_representer(list, _list)


def safe_name(text: str, otherwise: str) -> str:
    """What a sweep may be called."""
    return re.sub(r"[^A-Za-z0-9._-]+", "-", text).strip("-._")[:40] or otherwise


def parameter(key: str) -> str:
    """A parameter's name: `model.lr` and `model` may stand side by side elsewhere, and not here."""
    return re.sub(r"\W+", "_", key).strip("_")


def spelt(value: Any) -> Any:
    """A value as Python programs of these tools get it on their command line: `True`, not `true`."""
    return str(value) if value is None or isinstance(value, bool) else value
