"""`key=value` of the command line."""

from __future__ import annotations

from dataclasses import dataclass, fields
from typing import Any

from terry.cluster.errors import UserError
from terry.jobs.sweeps.spec import RunConfig, SweepFile
from terry.jobs.sweeps.typed import nearest
from terry.jobs.sweeps.yaml_source import parse_value

_ROOT = tuple(f.name for f in fields(SweepFile))
_RUN = tuple(f.name for f in fields(RunConfig))

#: Below these, what follows is one key that contains dots: `sweep.grid.model.cell`.
_DOTTED_BELOW = (("sweep", "grid"), ("sweep", "zip"), ("sweep", "random", "distributions"))


@dataclass(frozen=True, slots=True)
class Override:
    """One setting from the command line."""

    text: str  #: as given
    path: tuple[str, ...]  #: relative to `run:` where `in_run`, else to the file
    value: Any
    in_run: bool

    @classmethod
    def parse(cls, text: str) -> Override:
        """`training.epochs=3` or `run.training.epochs=3`, `datasets.comments.seed=2`, `sweep.grid.model.cell=[gru]`."""
        key, sign, value = text.partition("=")
        parts = tuple(key.strip().split("."))
        if not sign or not all(parts):
            raise UserError(f"{text!r} is not an override; write key=value, such as training.epochs=3")
        try:
            parsed = parse_value(value)
        except UserError as error:
            raise UserError(f"{text}: the value is not valid YAML ({error})") from None
        if parts[0] == "run" and len(parts) > 1:
            return cls(text, parts[1:], parsed, in_run=True)
        if parts[0] in _RUN:
            return cls(text, parts, parsed, in_run=True)
        if parts[0] not in _ROOT:
            raise UserError(f"{text}: unknown key{nearest(parts[0], (*_RUN, *_ROOT))}")
        return cls(text, _path(parts), parsed, in_run=False)


def _path(parts: tuple[str, ...]) -> tuple[str, ...]:
    for prefix in _DOTTED_BELOW:
        if parts[: len(prefix)] == prefix and len(parts) > len(prefix):
            return (*prefix, ".".join(parts[len(prefix) :]))
    return parts
